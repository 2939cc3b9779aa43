/**
 * Where the reader writes: a text that grows, what it is for, and the button that sends or stops.
 */

import { byId } from "./dom.js";

const MODES = ["chat", "completion"];

export class Composer {
  /**
   * @param {{send: (text: string) => boolean, stop: () => void,
   *   setMode: (mode: "chat" | "completion") => void, onInput: () => void}} actions `send` says
   *   whether the text was taken
   */
  constructor(actions) {
    this.actions = actions;
    this.input = byId("prompt");
    this.running = false;
    this.mode = "chat";
    this.call = null;
    this.input.addEventListener("input", () => this.changed());
    this.input.addEventListener("keydown", (event) => this.onKey(event));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const mode of MODES) {
      byId(`mode-${mode}`).addEventListener("change", () => actions.setMode(mode));
    }
  }

  get text() {
    return this.input.value.trim() === "" ? "" : this.input.value;
  }

  onKey(event) {
    // While an input method composes a character, Enter is its own, and on touch keyboards there is
    // no other key for a new line.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && hasKeyboard()) {
      event.preventDefault();
      if (!this.running) this.submit();
    }
    if (event.key === "Escape" && this.running) this.actions.stop();
  }

  submit() {
    if (this.running) this.actions.stop();
    else if (this.text !== "" && this.actions.send(this.text)) this.fill("");
  }

  /** @param {string} text */
  fill(text) {
    this.input.value = text;
    this.changed();
    this.focus();
  }

  /** Not on screens that are touched: their keyboard would cover half of them. */
  focus() {
    if (hasKeyboard() && !byId("try").hidden) this.input.focus();
  }

  changed() {
    this.input.style.setProperty("height", "auto");
    this.input.style.setProperty("height", `${this.input.scrollHeight}px`);
    this.showButton();
    this.actions.onInput();
  }

  /** @param {"chat" | "completion"} mode */
  setMode(mode) {
    this.mode = mode;
    byId(`mode-${mode}`).checked = true;
    this.showLabel();
  }

  /**
   * @param {{running: boolean, call: import("./conversations.js").ToolCall | null}} state `call`: the
   *   one whose result is wanted
   */
  setState({ running, call }) {
    this.running = running;
    this.call = call;
    this.showLabel();
    this.showButton();
  }

  showLabel() {
    const words = this.mode === "chat" ? "Message" : "Text to go on with";
    const label = this.call ? `Result of ${this.call.name}, for the model` : words;
    byId("prompt-label").textContent = label;
    this.input.placeholder = label;
  }

  showButton() {
    const button = byId("send");
    button.textContent = this.running ? "Stop" : "Send";
    button.disabled = !this.running && this.text === "";
    button.classList.toggle("stop", this.running);
  }
}

function hasKeyboard() {
  return matchMedia("(hover: hover)").matches;
}
