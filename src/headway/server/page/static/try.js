/**
 * The Try view: conversations with the model, their parameters, and each request as code.
 */

import { currentKey } from "./api.js";
import { messageView, summary } from "./answers.js";
import { Composer } from "./composer.js";
import { Conversations } from "./conversations.js";
import { ConversationList } from "./list.js";
import { announce, byId, copyButton } from "./dom.js";
import { exampleButtons } from "./examples.js";
import { ParameterForm, markField } from "./parameters.js";
import { openCalls, requestOf } from "./request.js";
import { curl, python } from "./snippet.js";
import { emptyAnswer, streamAnswer } from "./stream.js";

/** Pixels from the end of the messages within which new text keeps the end in sight. */
const NEAR_END = 80;
const WRITERS = { curl, python };
/** The panels beside the conversation. */
const SIDES = ["conversations", "settings"];

class TryView {
  constructor(server) {
    this.server = server;
    this.store = new Conversations(storage());
    this.current = this.store.all[0] ?? this.store.begin("chat");
    /** @type {AbortController | null} of the answer that is being made */
    this.running = null;
    this.language = "curl";
    this.list = new ConversationList(this.store, {
      open: (conversation) => this.open(conversation),
      begin: () => this.open(this.store.begin(this.current.mode)),
    });
    this.composer = new Composer({
      send: (text) => this.send(text),
      stop: () => this.running?.abort(),
      setMode: (mode) => this.setMode(mode),
      onInput: () => this.showCode(),
    });
    this.parameters = new ParameterForm(() => this.showCode());
    this.wire();
    this.open(this.current);
  }

  wire() {
    for (const name of Object.keys(WRITERS)) {
      byId(`code-${name}`).addEventListener("change", () => {
        this.language = name;
        this.showCode();
      });
    }
    byId("code-copy").append(copyButton("Copy", () => byId("code-text").textContent));
    for (const side of SIDES) {
      byId(`toggle-${side}`).addEventListener("click", () => this.toggleSide(side));
      byId(side).addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || byId(side).dataset.open !== "true") return;
        this.toggleSide(side, false);
        byId(`toggle-${side}`).focus();
      });
    }
    this.server.listeners.push(() => {
      this.showDefaults();
      this.showCode();
    });
    window.addEventListener("pagehide", () => this.running && this.keep());
    window.addEventListener("storage", () => {
      this.store.reload(this.current);
      this.list.render(this.current);
    });
  }

  /** On narrow screens the panels at the sides lie over the conversation, one at a time. */
  toggleSide(side, open = byId(side).dataset.open !== "true") {
    for (const each of SIDES) {
      const shown = each === side && open;
      byId(each).dataset.open = String(shown);
      byId(`toggle-${each}`).setAttribute("aria-expanded", String(shown));
    }
  }

  open(conversation) {
    this.running?.abort();
    this.running = null;
    this.current = conversation;
    this.toggleSide("conversations", false);
    this.applyMode();
    this.render();
    this.composer.focus();
  }

  setMode(mode) {
    if (mode === this.current.mode) return;
    if (this.current.messages.length > 0) this.open(this.store.begin(mode));
    this.current.mode = mode;
    this.applyMode();
    this.render();
  }

  applyMode() {
    this.composer.setMode(this.current.mode);
    this.parameters.setMode(this.current.mode);
    this.showDefaults();
  }

  showDefaults() {
    const { chat, completions } = this.server.model?.defaults ?? {};
    this.parameters.showDefaults((this.current.mode === "chat" ? chat : completions) ?? {});
  }

  /** What the reader wrote, as a message: the result of the first call that has none, if any. */
  said(text) {
    const [call] = openCalls(this.current);
    if (!call) return { role: "user", content: text };
    return { role: "tool", content: text, callId: call.id, name: call.name };
  }

  /** Take what the reader wrote, and have it answered; whether it was taken. */
  send(text) {
    const { problem } = this.parameters.read();
    if (problem) {
      this.toggleSide("settings", true);
      byId(problem.id).focus();
      return false;
    }
    this.current.messages.push(this.said(text));
    if (openCalls(this.current).length === 0) {
      this.answer();
    } else {
      this.keep();
      this.render();
    }
    return true;
  }

  /** Have the model answer what the conversation ends with. */
  async answer() {
    const conversation = this.current;
    const request = this.request(conversation.messages);
    const answer = emptyAnswer();
    conversation.messages.push(answer);
    this.keep();
    const running = new AbortController();
    this.running = running;
    this.render();
    await streamAnswer(request, answer, {
      signal: running.signal,
      onChange: () => this.drawSoon(),
    });
    if (this.store.find(conversation.id)) this.store.keep(conversation); // It may be deleted.
    if (this.running === running) this.running = null;
    if (this.current === conversation) this.ended(answer);
    this.list.render(this.current);
  }

  ended(answer) {
    this.render();
    announce(summary(answer));
    if (answer.failure?.field && markField(answer.failure.field, answer.failure.message)) {
      this.toggleSide("settings", true);
    }
    this.composer.focus();
  }

  /** The last answer once more. */
  again() {
    this.current.messages.pop();
    this.answer();
  }

  /** What was asked last, to be written differently. */
  edit() {
    const at = this.current.messages.findLastIndex((message) => message.role === "user");
    const [asked] = this.current.messages.splice(at);
    this.keep();
    this.render();
    this.composer.fill(asked.content);
  }

  keep() {
    this.store.keep(this.current);
  }

  /** What is sent for these messages. */
  request(messages) {
    const { system, fields } = this.parameters.read();
    return requestOf({ ...this.current, messages }, { system, fields }, this.server.model?.id ?? null);
  }

  /** As code: what would be sent now, or what was sent last where nothing is written. */
  showCode() {
    if (!this.parameters) return; // It is being made.
    const { messages, mode } = this.current;
    const example = mode === "chat" ? "Hello" : "Once upon a time";
    const draft = this.composer.text || (messages.length === 0 ? example : "");
    const answered = messages.at(-1)?.role === "assistant" ? messages.slice(0, -1) : messages;
    const request = this.request(draft ? [...messages, this.said(draft)] : answered);
    const base = new URL(".", document.baseURI).href;
    byId("code-text").textContent = WRITERS[this.language](request, { base, key: currentKey() !== "" });
  }

  render() {
    const { messages } = this.current;
    const free = this.running === null;
    this.views = messages.map((message, at) => {
      const last = at === messages.length - 1 && free;
      const actions = last && message.role === "assistant" ? { again: () => this.again() } : {};
      if (free && message === messages.findLast(({ role }) => role === "user")) {
        actions.edit = () => this.edit();
      }
      return messageView(message, actions);
    });
    if (!free) this.views.at(-1).update(true);
    const nothing = exampleButtons(this.current.mode, (example) => this.useExample(example));
    byId("messages").replaceChildren(
      ...(this.views.length > 0 ? this.views.map(({ node }) => node) : [nothing]),
    );
    byId("storage-problem").textContent = this.store.problem;
    this.composer.setState({ running: !free, call: openCalls(this.current)[0] ?? null });
    this.list.render(this.current);
    this.showCode();
    this.toEnd();
  }

  /** Fill in an example; sending it is the reader's. */
  useExample({ text, fields }) {
    this.parameters.fill(fields);
    this.composer.fill(text);
  }

  /** At most once a frame, however fast tokens come; browsers draw no frames of hidden pages. */
  drawSoon() {
    if (this.frame) return;
    const conversation = this.current;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.current !== conversation || this.running === null) return;
      const near = this.isNearEnd();
      this.views.at(-1).update(true);
      if (near) this.toEnd();
    });
  }

  isNearEnd() {
    const box = byId("talk");
    return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
  }

  toEnd() {
    byId("talk").scrollTop = byId("talk").scrollHeight;
  }
}

/** Where conversations are kept; null where the browser does not allow it. */
function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/**
 * Fill the Try view, whose elements are in the page already.
 *
 * @param {HTMLElement} _root
 * @param {{server: any}} shell see `shell.js`
 */
export function mountTry(_root, { server }) {
  new TryView(server);
}
