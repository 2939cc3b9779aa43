/**
 * The little of Markdown that answers are full of: code, headings, lists, quotes, bold, italics.
 *
 * Everything else stays as it was written. Links are not made, and no text ever becomes HTML.
 *
 * @typedef {{kind: "text" | "code" | "strong" | "em", text: string}} Inline
 * @typedef {{kind: "paragraph" | "heading" | "quote", parts: Inline[]}
 *   | {kind: "code", language: string, text: string}
 *   | {kind: "list", start: number, items: {depth: number, ordered: boolean, parts: Inline[]}[]}
 *   | {kind: "rule"}} Block
 */

import { copyButton, element } from "./dom.js";

const FENCE = /^(\s*)(```+|~~~+)([^`]*)$/;
const HEADING = /^ {0,3}#{1,6}\s+(.*)$/;
const ITEM = /^(\s*)(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const RULE = /^ {0,3}(?:-{3,}|\*{3,}|_{3,})\s*$/;
const INLINE = /(?<!`)`([^`\n]+)`(?!`)|\*\*(?=\S)([^*\n]+)\*\*|(?<![\w*])[*_](?=\S)([^*_\n]+)[*_](?![\w*])/g;
const DEEPEST = 4;

/**
 * The blocks of a text, which may break off anywhere.
 *
 * @param {string} text
 * @returns {Block[]}
 */
export function blocksOf(text) {
  const lines = text.split("\n");
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    const fence = FENCE.exec(lines[at]);
    if (fence) {
      let end = at + 1;
      while (end < lines.length && !closes(lines[end], fence[2])) end += 1;
      const code = lines.slice(at + 1, end).map((line) => outdented(line, fence[1].length));
      blocks.push({ kind: "code", language: fence[3].trim(), text: code.join("\n") });
      at = end + 1;
    } else {
      takeLine(blocks, lines[at]);
      at += 1;
    }
  }
  return blocks.filter((block) => block.kind !== "blank").map(finished);
}

function closes(line, fence) {
  const trimmed = line.trim();
  return trimmed.startsWith(fence) && trimmed === trimmed[0].repeat(trimmed.length);
}

function outdented(line, spaces) {
  return line.slice(Math.min(spaces, line.length - line.trimStart().length));
}

/** A line begins a block, or goes on with the last one. */
function takeLine(blocks, line) {
  const last = blocks.at(-1);
  const [heading, item, quote] = [HEADING.exec(line), ITEM.exec(line), QUOTE.exec(line)];
  if (line.trim() === "") blocks.push({ kind: "blank", after: last?.kind === "list" ? last : null });
  else if (RULE.test(line)) blocks.push({ kind: "rule" });
  else if (heading) blocks.push({ kind: "heading", lines: [heading[1]] });
  else if (item) takeItem(blocks, last?.kind === "blank" ? last.after : last, item);
  else if (quote && last?.kind === "quote") last.lines.push(quote[1]);
  else if (quote) blocks.push({ kind: "quote", lines: [quote[1]] });
  else if (last?.kind === "list") last.items.at(-1).lines.push(line.trim());
  else if (last?.kind === "paragraph") last.lines.push(line);
  else blocks.push({ kind: "paragraph", lines: [line] });
}

/** Items go on with a list of their kind, also where a line is empty between them. */
function takeItem(blocks, list, [, indent, , number, text]) {
  const ordered = number !== undefined;
  const item = { depth: Math.min(indent.length >> 1, DEEPEST), ordered, lines: [text] };
  const goesOn = list?.kind === "list" && (item.depth > 0 || list.items[0].ordered === ordered);
  if (goesOn) list.items.push(item);
  else blocks.push({ kind: "list", start: Number(number ?? 1), items: [item] });
}

function finished(block) {
  if (block.kind === "list") {
    const items = block.items.map(({ lines, ...item }) => ({ ...item, parts: inlineOf(lines.join("\n")) }));
    return { ...block, items };
  }
  return block.lines ? { kind: block.kind, parts: inlineOf(block.lines.join("\n")) } : block;
}

/**
 * @param {string} text
 * @returns {Inline[]}
 */
export function inlineOf(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > at) parts.push({ kind: "text", text: text.slice(at, found.index) });
    if (found[1] !== undefined) parts.push({ kind: "code", text: found[1] });
    else if (found[2] !== undefined) parts.push({ kind: "strong", text: found[2] });
    else parts.push({ kind: "em", text: found[3] });
    at = found.index + found[0].length;
  }
  if (at < text.length) parts.push({ kind: "text", text: text.slice(at) });
  return parts;
}

/**
 * Blocks as elements, which can grow: those that stay the same stay in the page, and with them what
 * the reader has selected there.
 *
 * @returns {{node: HTMLElement, update: (blocks: Block[]) => void}}
 */
export function blocksView() {
  const node = element("div", { class: "markdown" });
  let keys = [];
  const update = (blocks) => {
    const now = blocks.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < now.length && now[same] === keys[same]) same += 1;
    while (node.children.length > same) node.lastElementChild.remove();
    node.append(...blocks.slice(same).map(shown));
    keys = now;
  };
  return { node, update };
}

function shown(block) {
  if (block.kind === "rule") return element("hr");
  if (block.kind === "code") return codeBlock(block.text, block.language);
  if (block.kind === "list") return list(block);
  const tags = { heading: "h4", quote: "blockquote", paragraph: "p" };
  return element(tags[block.kind], {}, ...inline(block.parts));
}

/** One list of all depths, whose items are numbered by their depth. */
function list({ start, items }) {
  const counts = [];
  const shownItems = items.map(({ depth, ordered, parts }) => {
    counts.length = depth + 1; // A new item ends the deeper lists.
    counts[depth] = (counts[depth] ?? (depth === 0 ? start - 1 : 0)) + 1;
    const looks = `depth-${depth}${ordered ? "" : " dash"}`;
    return element("li", { class: looks, value: ordered ? counts[depth] : null }, ...inline(parts));
  });
  return element(items.some((item) => item.ordered) ? "ol" : "ul", {}, ...shownItems);
}

function inline(parts) {
  return parts.map(({ kind, text }) => (kind === "text" ? text : element(kind, {}, text)));
}

/**
 * Code in a box of its own, which can be copied.
 *
 * @param {string} text
 * @param {string} name shown above it, such as its language
 */
export function codeBlock(text, name) {
  const head = element("figcaption", {}, element("span", {}, name), copyButton("Copy", () => text));
  // Wide code is scrolled, with the keyboard too.
  const code = element(
    "pre",
    { tabindex: "0", role: "group", "aria-label": name || "code" },
    element("code", {}, text),
  );
  return element("figure", { class: "code" }, head, code);
}
