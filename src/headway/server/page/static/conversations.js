/**
 * Conversations, kept in the reader's browser and nowhere else.
 *
 * There are bounds on their number and on their size; the ones changed longest ago go first. Other
 * tabs of the same page share them: what is written last holds.
 *
 * @typedef {{id: string, name: string, arguments: string}} ToolCall
 * @typedef {{firstToken: number | null, seconds: number, promptTokens: number | null,
 *   tokens: number | null, cachedTokens: number | null, finish: string | null}} Figures
 *   seconds since the request was sent: to the first token, and to the last
 * @typedef {{message: string, field: string | null, code: string | null, status: number,
 *   requestId: string | null}} Failure
 * @typedef {{role: "user", content: string}} UserMessage
 * @typedef {{role: "tool", content: string, callId: string, name: string}} ToolResult
 * @typedef {{role: "assistant", content: string, reasoning: string, toolCalls: ToolCall[],
 *   figures: Figures | null, failure: Failure | null}} Answer
 * @typedef {{id: string, title: string, mode: "chat" | "completion", changed: number,
 *   messages: (UserMessage | ToolResult | Answer)[]}} Conversation
 */

const KEPT = "headway.conversations";
export const MOST_CONVERSATIONS = 100;
/** Characters of all of them as JSON; browsers keep about five million. */
export const MOST_CHARACTERS = 2_000_000;
const TITLE_CHARACTERS = 60;

export class Conversations {
  /** @param {Storage | null} storage such as `localStorage`; null where there is none */
  constructor(storage) {
    this.storage = storage;
    /** @type {Conversation[]} the one changed last first */
    this.all = read(storage);
    /** Why they cannot be kept; "" while they can. */
    this.problem = "";
  }

  /**
   * A new one, which is kept once something is said in it.
   *
   * @param {"chat" | "completion"} mode
   * @returns {Conversation}
   */
  begin(mode) {
    return { id: crypto.randomUUID?.() ?? fallbackId(), title: "", mode, changed: 0, messages: [] };
  }

  /** @param {string} id */
  find(id) {
    return this.all.find((each) => each.id === id);
  }

  /**
   * Keep a conversation as it is now.
   *
   * @param {Conversation} conversation
   * @param {number} now milliseconds
   */
  keep(conversation, now = Date.now()) {
    const first = conversation.messages.find((message) => message.role === "user");
    conversation.title ||= shortened(first?.content ?? "");
    conversation.changed = now;
    this.all = [conversation, ...this.all.filter((each) => each.id !== conversation.id)];
    this.write();
  }

  /**
   * Take over what another tab has written.
   *
   * @param {Conversation} current which stays the object that it is
   */
  reload(current) {
    this.all = read(this.storage).map((each) => (each.id === current.id ? current : each));
  }

  /** @param {string} id */
  remove(id) {
    this.all = this.all.filter((each) => each.id !== id);
    this.write();
  }

  clear() {
    this.all = [];
    this.write();
  }

  /** All of them as a JSON file's text. */
  exported() {
    return `${JSON.stringify({ headway_conversations: 1, conversations: this.all }, null, 2)}\n`;
  }

  write() {
    const kept = this.all.slice(0, MOST_CONVERSATIONS).map((each) => [each, JSON.stringify(each)]);
    let size = kept.reduce((sum, [, text]) => sum + text.length, 0);
    while (size > MOST_CHARACTERS && kept.length > 1) size -= kept.pop()[1].length;
    this.all = kept.map(([conversation]) => conversation);
    try {
      this.storage.setItem(KEPT, `[${kept.map(([, text]) => text).join(",")}]`);
      this.problem = "";
    } catch {
      this.problem = "The browser keeps no more: this lasts as long as the page is open.";
    }
  }
}

/** What is kept; nothing where it cannot be read or is no list of conversations. */
function read(storage) {
  try {
    const found = JSON.parse(storage.getItem(KEPT) ?? "[]");
    return found.filter((each) => typeof each.id === "string" && Array.isArray(each.messages));
  } catch {
    return [];
  }
}

function shortened(text) {
  const words = text.trim().replace(/\s+/g, " ");
  const characters = [...words];
  if (characters.length <= TITLE_CHARACTERS) return words || "Untitled";
  return `${characters.slice(0, TITLE_CHARACTERS - 1).join("")}…`;
}

/** Browsers have `randomUUID` on HTTPS and on this machine alone. */
function fallbackId() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((each) => each.toString(36)).join("-");
}
