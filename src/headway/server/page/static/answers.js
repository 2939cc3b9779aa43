/**
 * Messages as elements, and the figures under each answer.
 */

import { blocksOf, blocksView, codeBlock } from "./markdown.js";
import { copyButton, element } from "./dom.js";
import { rateOf } from "./stream.js";

const ROLES = { user: "You", assistant: "Model", tool: "Tool" };

/** Why an answer ended, for people. */
const FINISHES = {
  stop: "ended by itself",
  length: "cut at the limit of tokens",
  tool_calls: "calls a tool",
  stopped: "stopped by you",
};

/**
 * A message as an element; `update` shows what has come to an answer since.
 *
 * @param {any} message
 * @param {{again?: () => void, edit?: () => void}} actions those that are offered
 * @returns {{node: HTMLElement, update: (running: boolean) => void}}
 */
export function messageView(message, actions = {}) {
  const body = element("div", { class: "message-body" });
  const foot = element("div", { class: "message-foot" });
  const name = message.role === "tool" ? `Result of ${message.name}` : ROLES[message.role];
  const label = element("h3", { class: "message-role" }, name);
  const node = element("li", { class: `message ${message.role}` }, label, body, foot);
  const fill = message.role === "assistant" ? answerBody(body, message) : () => {};
  if (message.role === "user") body.append(element("p", { class: "plain" }, message.content));
  if (message.role === "tool") body.append(codeBlock(message.content, message.name));
  const update = (running) => {
    node.classList.toggle("running", running);
    node.setAttribute("aria-busy", String(running));
    fill(running);
    foot.replaceChildren(...footOf(message, running, actions));
  };
  update(false);
  return { node, update };
}

/** Reasoning, text, and what is made anew each time: calls, an error, that nothing has come yet. */
function answerBody(body, message) {
  const thinking = reasoningView(message);
  const text = blocksView();
  const rest = element("div", { class: "rest" });
  body.append(thinking.node, text.node, rest);
  return (running) => {
    thinking.update(running);
    text.update(blocksOfAnswer(message.content));
    const parts = message.toolCalls.filter(Boolean).map(toolCall);
    if (message.failure) parts.push(failure(message.failure));
    else if (!message.content && !message.reasoning && parts.length === 0) parts.push(nothing(running));
    rest.replaceChildren(...parts);
  };
}

/** JSON is code: as Markdown, its asterisks and underscores would be lost. */
function blocksOfAnswer(content) {
  const begun = content.trimStart()[0];
  const whole = begun === "{" || begun === "[" ? laidOut(content) : null;
  if (whole === null && begun !== "{") return blocksOf(content);
  return [{ kind: "code", language: "json", text: whole ?? content }];
}

function nothing(running) {
  return element("p", { class: "muted" }, running ? "Waiting for the first token…" : "Nothing was said.");
}

/** Open while the model reasons, unless the reader closes it; closed once it answers. */
function reasoningView(message) {
  const summaryLine = element("summary", {}, "Reasoning");
  const text = element("p", { class: "plain" });
  const node = element("details", { class: "reasoning", hidden: true }, summaryLine, text);
  let wasThinking = false;
  const update = (running) => {
    const thinking = running && message.reasoning !== "" && message.content === "";
    node.hidden = message.reasoning === "";
    text.textContent = message.reasoning;
    if (thinking !== wasThinking) node.open = thinking;
    wasThinking = thinking;
  };
  return { node, update };
}

function toolCall(each) {
  const text = laidOut(each.arguments) ?? each.arguments;
  return element("div", { class: "tool-call" }, codeBlock(text, `calls ${each.name}`));
}

/**
 * JSON with lines, as soon as it is whole; as it was written where that would change more than its
 * spaces, such as a long number; null for anything else.
 *
 * @param {string} text
 * @returns {string | null}
 */
export function laidOut(text) {
  try {
    const laid = JSON.stringify(JSON.parse(text), null, 2);
    return withoutSpace(laid) === withoutSpace(text) ? laid : text;
  } catch {
    return null;
  }
}

function withoutSpace(text) {
  return text.replace(/\s/g, "");
}

function failure({ message, field, code, status, requestId }) {
  const details = [
    status ? `HTTP ${status}` : null,
    code,
    field ? `field ${field}` : null,
    requestId ? `request ${requestId}` : null,
  ].filter(Boolean);
  return element(
    "div",
    { class: "failure", role: "alert" },
    element("p", {}, message),
    details.length > 0 && element("p", { class: "details" }, details.join(" · ")),
  );
}

function footOf(message, running, { again, edit }) {
  if (running) return [figuresLine(message)].filter(Boolean);
  const text = message.content || message.failure?.message || "";
  const buttons = [
    text && copyButton("Copy", () => text),
    edit && element("button", { type: "button", class: "button quiet", onclick: edit }, "Edit"),
    again && element("button", { type: "button", class: "button quiet", onclick: again }, "Try again"),
  ];
  const actions = element("span", { class: "actions" }, ...buttons);
  return [figuresLine(message), actions].filter(Boolean);
}

/** Time to the first token, speed, counts and end, as a list of terms. */
function figuresLine({ figures }) {
  if (!figures) return null;
  const rate = rateOf(figures);
  const terms = [
    ["First token", figures.firstToken === null ? null : duration(figures.firstToken)],
    ["Speed", rate === null ? null : `${rounded(rate)} tokens/s`],
    ["Answer", figures.tokens === null ? null : counted(figures.tokens)],
    ["Prompt", figures.promptTokens === null ? null : counted(figures.promptTokens)],
    ["Cached", figures.cachedTokens === null ? null : counted(figures.cachedTokens)],
    ["End", figures.finish === null ? null : (FINISHES[figures.finish] ?? figures.finish)],
  ].filter(([, value]) => value !== null);
  if (terms.length === 0) return null;
  const shown = terms.map(([term, value]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, value)),
  );
  return element("dl", { class: "answer-figures" }, ...shown);
}

/** @param {number} seconds */
export function duration(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${rounded(seconds)} s`;
}

function counted(count) {
  return `${count.toLocaleString("en")} ${count === 1 ? "token" : "tokens"}`;
}

/** Three digits, at least the whole part. */
function rounded(number) {
  return number >= 100 ? String(Math.round(number)) : String(Number(number.toPrecision(3)));
}

/** What an answer amounted to, in a sentence for screen readers. */
export function summary({ failure: failed, figures }) {
  if (failed) return `The request failed: ${failed.message}`;
  const count = figures?.tokens ? `, ${counted(figures.tokens)}` : "";
  return `The answer is complete${count}.`;
}
