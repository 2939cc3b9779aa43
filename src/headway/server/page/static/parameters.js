/**
 * The fields of a request that the reader may set; what is left empty is not sent.
 *
 * Values are checked as far as a browser can, so that a slip shows where it was made; the rest the
 * server checks, and `markField` shows its refusal at the same place.
 */

import { byId } from "./dom.js";

const KEPT = "headway.parameters";

/**
 * @typedef {{name: string, id: string, kind: "number" | "integer" | "lines" | "object" | "list",
 *   least?: number, most?: number, chat?: boolean}} Field `name` is the API's, with dots where it is
 *   inside another; `chat`: of chats alone
 */

/** @type {Field[]} */
export const FIELDS = [
  { name: "temperature", id: "field-temperature", kind: "number", least: 0, most: 100 },
  { name: "top_p", id: "field-top-p", kind: "number", least: 0, most: 1 },
  { name: "max_tokens", id: "field-max-tokens", kind: "integer", least: 1, most: 2 ** 31 - 1 },
  {
    ...{ name: "seed", id: "field-seed", kind: "integer" },
    ...{ least: Number.MIN_SAFE_INTEGER, most: Number.MAX_SAFE_INTEGER },
  },
  { name: "stop", id: "field-stop", kind: "lines" },
  { name: "slo.ttft_ms", id: "field-ttft", kind: "number", least: 0.001, most: 1e12 },
  { name: "slo.tpot_ms", id: "field-tpot", kind: "number", least: 0.001, most: 1e12 },
  { name: "response_format", id: "field-schema", kind: "object" },
  { name: "tools", id: "field-tools", kind: "list", chat: true },
];
const SYSTEM = "field-system";

/**
 * What the texts of the fields amount to, and what is wrong with them, by the fields' names.
 *
 * @param {Record<string, string>} texts by the fields' names
 * @returns {{fields: Record<string, any>, problems: Record<string, string>}}
 */
export function readFields(texts) {
  const fields = {};
  const problems = {};
  for (const field of FIELDS) {
    const text = texts[field.name] ?? "";
    if (text.trim() === "") continue;
    try {
      put(fields, field.name, READERS[field.kind](text, field));
    } catch (error) {
      problems[field.name] = error.message;
    }
  }
  return { fields, problems };
}

const READERS = {
  number: (text, field) => bounded(Number(text), field, "a number"),
  integer: (text, field) => {
    const value = Number(text);
    return bounded(Number.isInteger(value) ? value : NaN, field, "a whole number");
  },
  lines: (text) => {
    const lines = text.split("\n").filter((line) => line !== "").map(unescaped);
    return lines.length === 1 ? lines[0] : lines;
  },
  object: (text) => {
    const schema = json(text);
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
      throw new Error("must be a JSON Schema, which is an object");
    }
    return { type: "json_schema", json_schema: { name: "answer", schema } };
  },
  list: (text) => {
    const found = json(text);
    if (!Array.isArray(found)) throw new Error("must be a list of tools, in [ ]");
    return found.map(asTool);
  },
};

function bounded(value, { least, most }, kind) {
  if (Number.isFinite(value) && value >= least && value <= most) return value;
  throw new Error(`must be ${kind} from ${least} to ${most}`);
}

/** So that a line's end and a tab can be written in one line. */
function unescaped(line) {
  const meant = { n: "\n", t: "\t", "\\": "\\" };
  return line.replace(/\\([nt\\])/g, (_, letter) => meant[letter]);
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`is no JSON: ${error.message}`);
  }
}

/** A function alone is taken as the tool that it is. */
function asTool(each) {
  const bare = each !== null && typeof each === "object" && "name" in each && !("type" in each);
  return bare ? { type: "function", function: each } : each;
}

function put(fields, name, value) {
  const [outer, inner] = name.split(".");
  if (inner === undefined) fields[outer] = value;
  else fields[outer] = { ...fields[outer], [inner]: value };
}

/** The form with the fields: kept in the browser, and shown with what is wrong. */
export class ParameterForm {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    const kept = recall();
    byId(SYSTEM).value = kept.system ?? "";
    for (const field of FIELDS) byId(field.id).value = kept[field.name] ?? "";
    byId("parameters").addEventListener("input", () => this.changed());
    byId("parameters").addEventListener("submit", (event) => event.preventDefault());
    byId("reset-parameters").addEventListener("click", () => this.reset());
    this.changed();
  }

  /** What to send; `problem` is the first field that has to be mended, null where there is none. */
  read() {
    const used = FIELDS.filter((field) => !byId(field.id).disabled);
    const { fields, problems } = readFields(textsOf(used));
    const problem = FIELDS.find((field) => field.name in problems) ?? null;
    return { system: byId(SYSTEM).value.trim(), fields, problem };
  }

  /** Fields of chats alone are switched off for completions. */
  setMode(mode) {
    byId(SYSTEM).disabled = mode !== "chat";
    for (const field of FIELDS) byId(field.id).disabled = Boolean(field.chat) && mode !== "chat";
  }

  /**
   * Show what a request gets that leaves a field open.
   *
   * @param {Record<string, number>} defaults by the API's names
   */
  showDefaults(defaults) {
    byId("field-temperature").placeholder = String(defaults.temperature ?? 1);
    byId("field-top-p").placeholder = String(defaults.top_p ?? 1);
  }

  changed() {
    const texts = textsOf(FIELDS);
    const { problems } = readFields(texts);
    for (const field of FIELDS) setProblem(field.id, problems[field.name] ?? "");
    const system = byId(SYSTEM).value;
    const count = Object.values({ ...texts, system }).filter((text) => text.trim() !== "").length;
    byId("parameter-count").textContent = count > 0 ? `${count} set` : "";
    try {
      localStorage.setItem(KEPT, JSON.stringify({ ...texts, system }));
    } catch {
      // Storage may be blocked or full; the fields then last as long as the page.
    }
    this.onChange();
  }

  /**
   * Set some fields, and leave the others.
   *
   * @param {Record<string, string>} texts by the fields' names
   */
  fill(texts) {
    for (const field of FIELDS) {
      if (field.name in texts) byId(field.id).value = texts[field.name];
    }
    this.changed();
  }

  reset() {
    byId(SYSTEM).value = "";
    for (const field of FIELDS) byId(field.id).value = "";
    this.changed();
  }
}

/**
 * Show the server's refusal at the field that it names; whether there is such a field.
 *
 * @param {string | null} name the API's, such as "slo.ttft_ms" or "tools[0].function.name"
 * @param {string} message
 */
export function markField(name, message) {
  const found = name !== null && FIELDS.find((field) => name === field.name || begins(name, field.name));
  if (found) setProblem(found.id, message);
  return Boolean(found);
}

function textsOf(fields) {
  return Object.fromEntries(fields.map((field) => [field.name, byId(field.id).value]));
}

function begins(name, start) {
  return name.startsWith(`${start}.`) || name.startsWith(`${start}[`);
}

/** The text under a field that says what is wrong; "" for nothing. */
function setProblem(id, message) {
  const input = byId(id);
  const told = byId(`${id}-problem`);
  told.textContent = message;
  told.hidden = message === "";
  if (message) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "{}") ?? {};
  } catch {
    return {};
  }
}
