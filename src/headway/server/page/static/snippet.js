/**
 * A request as code that can be run as it is: for curl, and for Python with the official client.
 *
 * Keys are never written out: the code takes one from the environment.
 */

import { CHAT_PATH } from "./request.js";

export const KEY_VARIABLE = "HEADWAY_API_KEY";

/** What the official client's methods take by name; everything else goes into `extra_body`. */
const NAMED = [
  ...["model", "temperature", "top_p", "max_tokens", "seed", "stop", "stream", "stream_options"],
];
const NAMED_OF_CHATS = ["messages", "response_format", "tools"];
const NAMED_OF_COMPLETIONS = ["prompt"];

/**
 * A command line for a POSIX shell.
 *
 * @param {import("./request.js").ApiRequest} request
 * @param {{base: string, key: boolean}} server its address, with a slash at the end, and whether it
 *   wants a key
 */
export function curl(request, { base, key }) {
  const lines = [`curl --no-buffer ${quoted(base + request.path)}`];
  lines.push(`-H ${quoted("Content-Type: application/json")}`);
  if (key) lines.push(`-H "Authorization: Bearer $${KEY_VARIABLE}"`);
  lines.push(`-d ${quoted(JSON.stringify(request.body, null, 2))}`);
  return `${lines.join(" \\\n  ")}\n`;
}

/** As one word of a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * A program for Python.
 *
 * @param {import("./request.js").ApiRequest} request
 * @param {{base: string, key: boolean}} server as for `curl`
 */
export function python(request, { base, key }) {
  const chat = request.path === CHAT_PATH;
  const named = new Set([...NAMED, ...(chat ? NAMED_OF_CHATS : NAMED_OF_COMPLETIONS)]);
  const known = Object.entries(request.body).filter(([name]) => named.has(name));
  const extra = Object.entries(request.body).filter(([name]) => !named.has(name));
  if (extra.length > 0) known.push(["extra_body", Object.fromEntries(extra)]);
  const given = known.map(([name, value]) => `    ${name}=${literal(value, 1)},\n`).join("");
  const secret = key ? `os.environ["${KEY_VARIABLE}"]` : '"none"';
  const address = literal(`${base}v1`, 0);
  return (
    `${key ? "import os\n\n" : ""}from openai import OpenAI\n\n` +
    `client = OpenAI(base_url=${address}, api_key=${secret})\n` +
    `stream = client.${chat ? "chat.completions" : "completions"}.create(\n${given})\n` +
    `for chunk in stream:\n    for choice in chunk.choices:\n${printed(request, chat)}print()\n`
  );
}

function printed(request, chat) {
  const text = chat ? "choice.delta.content" : "choice.text";
  const lines = [`print(${text} or "", end="", flush=True)`];
  if (request.body.tools) {
    lines.push("for call in choice.delta.tool_calls or ():");
    lines.push('    print(call.function.name or "", call.function.arguments or "", end="")');
  }
  return lines.map((line) => `        ${line}\n`).join("");
}

/**
 * A value as Python writes it.
 *
 * @param {any} value as JSON has it
 * @param {number} depth of indentation
 * @returns {string}
 */
export function literal(value, depth) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((each) => literal(each, depth + 1))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, depth + 1)}`);
  if (items.length === 0) return open + close;
  const inner = "    ".repeat(depth + 1);
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${"    ".repeat(depth)}${close}`;
}
