/**
 * The Live view: the batch as it happens, from the server's events.
 *
 * It draws when a frame comes, or the reader moves in time, and at no other moment. While it is
 * paused, frames are still taken in, so that the reader can go on or look at what came meanwhile.
 */

import { drawChart, readColours } from "./live-chart.js";
import { figures, sentences, whatIf } from "./live-panels.js";
import { applyFrame, applySnapshot, emptyState, findRow, KEPT_SECONDS } from "./live-state.js";
import { slotTable } from "./live-table.js";
import { summaryWords } from "./live-words.js";
import { element } from "./dom.js";

const SUMMARY_SECONDS = 8;
/** Milliseconds for which a page that is not seen keeps listening. */
const UNSEEN = 300_000;
const SPANS = [15, 30, 60, 120];
const LEGEND = [["prefill", "prefill"], ["cached", "from the cache"], ["decode", "answering"], ["waiting", "waiting"], ["hatch", "idle"]];
const HELP = "Space pauses, arrow keys go back and forth, Home and End go to the beginning and to now. Tap a bar to follow its request.";

/**
 * Put the view into `root`, and follow the server's events while it is shown.
 *
 * @param {HTMLElement} root
 * @param {{fetchEvents: (path: string, onEvent: (event: {event: string, data: string}) => void,
 *   signal: AbortSignal) => Promise<void>}} given
 * @returns {{show: () => void, hide: () => void}}
 */
export function mountLive(root, { fetchEvents }) {
  const state = emptyState();
  const view = { seconds: 30, back: 0, paused: false, selected: null, colours: readColours(), until: 0 };
  const parts = build(root, view, { select, redraw, go, pause });
  let drawn = null;
  let asked = false;
  let told = -Infinity;
  let stop = new AbortController();

  function redraw() {
    if (asked || root.hidden) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  }

  function draw() {
    if (!view.paused) view.until = state.at;
    const until = view.until - view.back;
    drawn = drawChart(parts.canvas, state, { ...view, until });
    const row = view.selected === null ? null : findRow(state, view.selected);
    parts.update(state, row);
    if (state.at - told > SUMMARY_SECONDS || told > state.at) {
      told = state.at;
      parts.tell(summaryWords(state));
    }
  }

  function select(key) {
    view.selected = view.selected === key ? null : key;
    redraw();
  }

  function pause(on) {
    view.paused = on;
    if (on) view.until = state.at;
    else view.back = 0;
    parts.paused(on);
    redraw();
  }

  /** Go so many seconds back (or forth, below 0) in time; that pauses. */
  function go(seconds) {
    if (!view.paused) pause(true);
    view.back = Math.min(Math.max(0, view.back + seconds), KEPT_SECONDS - view.seconds);
    redraw();
  }

  function onEvent({ event, data }) {
    if (event === "lost") parts.status(`The stream of news broke off (${data}); it is taken up again.`);
    else if (event === "snapshot") applySnapshot(state, JSON.parse(data));
    else if (event === "frame" && !applyFrame(state, JSON.parse(data))) again();
    if (event === "snapshot" || event === "frame") parts.status("");
    redraw();
  }

  function again() {
    stop.abort();
    show();
  }

  function show() {
    stop = new AbortController();
    fetchEvents("live", onEvent, stop.signal).catch((error) => parts.status(error.message));
    redraw();
  }

  parts.canvas.addEventListener("click", (event) => {
    const key = drawn?.hit(event.offsetX, event.offsetY) ?? null;
    if (key !== null) select(key);
  });
  window.addEventListener("themechange", () => {
    view.colours = readColours();
    redraw();
  });
  let leaving = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(() => stop.abort(), UNSEEN);
    else if (stop.signal.aborted && !root.hidden) show();
  });
  new ResizeObserver(redraw).observe(parts.canvas);
  show();
  return { show, hide: () => stop.abort() };
}

/** Everything that is seen, in `root`. */
function build(root, view, actions) {
  const canvas = element("canvas", { class: "live-canvas", role: "img", "aria-label": "Slots over time; the table below has the same" });
  const frame = element("div", { class: "live-chart", tabindex: "0", role: "group", "aria-label": `Chart of the slots. ${HELP}` }, canvas);
  const status = element("p", { class: "live-status", role: "status" });
  const summary = element("p", { class: "visually-hidden", "aria-live": "polite" });
  const controls = controlBar(view, actions);
  const above = figures();
  const words = sentences();
  const form = whatIf(() => latest?.figures);
  const table = slotTable(actions.select);
  let latest = null;
  frame.addEventListener("keydown", (event) => onKey(event, view, actions));
  words.onPrice(actions.redraw);
  root.replaceChildren(
    element("h1", { class: "visually-hidden" }, "The batch, live"),
    above.node,
    status,
    controls.node,
    frame,
    summary,
    element("div", { class: "live-below" }, words.node, form.node),
    element("details", { class: "live-details", open: matchMedia("(min-width: 700px)").matches }, element("summary", {}, "Requests that run or wait"), element("div", { class: "live-scroll" }, table.node)),
  );
  return {
    canvas,
    paused: controls.paused,
    tell: (text) => (summary.textContent = text),
    status: (text) => status.textContent !== text && (status.textContent = text),
    update(state, row) {
      latest = state;
      above.update(state);
      words.update(state, row);
      form.update(state);
      table.update(state, view.selected);
      frame.dataset.model = state.model;
      frame.dataset.number = String(state.number);
    },
  };
}

/** Pause, how much time is seen, and what the colours mean. */
function controlBar(view, { redraw, pause }) {
  const button = element("button", { type: "button", class: "button", "aria-pressed": "false", onclick: () => pause(!view.paused) }, "Pause");
  const spans = SPANS.map((seconds) => element("option", { value: seconds, selected: seconds === view.seconds }, `${seconds} s`));
  const span = element("select", {}, ...spans);
  span.addEventListener("change", () => {
    view.seconds = Number(span.value);
    redraw();
  });
  const legend = LEGEND.map(([name, text]) => element("li", {}, element("span", { class: `live-key live-key-${name}` }), text));
  const node = element(
    "div",
    { class: "live-controls" },
    button,
    element("label", { class: "muted" }, "The last ", span),
    element("ul", { class: "live-legend", "aria-label": "Colours" }, ...legend),
  );
  const paused = (on) => {
    button.textContent = on ? "Go on" : "Pause";
    button.setAttribute("aria-pressed", String(on));
  };
  return { node, paused };
}

function onKey(event, view, { go, pause }) {
  const step = event.shiftKey ? view.seconds / 2 : view.seconds / 20;
  const moves = { ArrowLeft: step, ArrowRight: -step, Home: KEPT_SECONDS };
  if (event.key === " ") pause(!view.paused);
  else if (event.key === "End") pause(false);
  else if (event.key in moves) go(moves[event.key]);
  else return;
  event.preventDefault();
}
