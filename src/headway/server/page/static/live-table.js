/**
 * The slots as a table: for those who do not see the chart, and to choose a request by keyboard.
 *
 * Rows are kept from one telling to the next, so that focus and reading position stay.
 */

import { element } from "./dom.js";
import { nextKeys, phaseOf, replicasOf, runningRows } from "./live-state.js";
import { shortName, time } from "./live-words.js";

const MOST = 100;
const HEADS = ["Slot", "Request", "Now", "Prompt", "Cached", "Answer", "Since"];
const WORDS = { waiting: "waits", prefill: "prefill", decode: "answers", ended: "ended" };

/**
 * @param {(key: number) => void} onSelect
 * @returns {{node: HTMLElement, update: (state: any, selected: number | null) => void}}
 */
export function slotTable(onSelect) {
  const head = element("tr", {}, ...HEADS.map((text) => element("th", { scope: "col" }, text)));
  const body = element("tbody");
  const caption = element("caption", { class: "visually-hidden" }, "Requests that run or wait");
  const node = element("table", { class: "live-table" }, caption, element("thead", {}, head), body);
  const rows = new Map();

  function rowFor(key) {
    const cells = HEADS.map(() => element("td"));
    const button = element("button", { type: "button", class: "button quiet", onclick: () => onSelect(key) });
    cells[1].append(button);
    return { node: element("tr", {}, ...cells), cells, button };
  }

  function update(state, selected) {
    const shown = listed(state);
    const keys = new Set(shown.map((row) => row.key));
    for (const [key, made] of rows) {
      if (!keys.has(key)) {
        made.node.remove();
        rows.delete(key);
      }
    }
    shown.forEach((row, place) => {
      if (!rows.has(row.key)) rows.set(row.key, rowFor(row.key));
      const made = rows.get(row.key);
      if (body.children[place] !== made.node) body.insertBefore(made.node, body.children[place] ?? null);
      fill(made, row, state, row.key === selected);
    });
  }

  return { node, update };
}

/** Those that run, by engine and slot, then those that wait, as they are next. */
function listed(state) {
  const running = runningRows(state);
  const waiting = nextKeys(state).map((key) => state.rows.get(key)).filter((row) => row && row.slot < 0);
  return [...running, ...waiting].slice(0, MOST);
}

function fill({ node, cells, button }, row, state, selected) {
  node.toggleAttribute("data-selected", selected);
  button.setAttribute("aria-pressed", String(selected));
  set(button, shortName(row));
  const where = replicasOf(state).length > 0 ? `replica ${row.replica}, ` : "";
  const texts = [
    where + (row.slot < 0 ? "–" : row.slot + 1),
    null,
    row.deferred ? "waits for a shared prefix" : WORDS[phaseOf(row)],
    row.prompt.toLocaleString("en"),
    row.cached.toLocaleString("en"),
    row.max_tokens === null ? String(row.generated) : `${row.generated} / ${row.max_tokens}`,
    time(Math.round(10 * (state.at - row.arrival)) / 10),
  ];
  texts.forEach((text, place) => text !== null && set(cells[place], text));
}

/** Text is written only where it changed: readers are told of each change. */
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
