/**
 * Draws the state on a canvas: the queue, the slots, KV memory and step times over one time axis.
 *
 * It only draws, when it is told to, and says where things are, so that they can be tapped. Colours
 * are those of the page's style.
 */

import { barsBetween, groupsDrawn, pointsBetween, waitOf } from "./live-bars.js";
import { time } from "./live-words.js";

const GUTTER = 60;
const RIGHT = 8;
const QUEUE = 40;
const MEMORY = 32;
const STEPS = 72;
const AXIS = 20;
const GAP = 14;
/** Above the slots of each of several engines. */
const HEAD = 16;
const FONT = "11px system-ui, sans-serif";
const NAMES = ["bg", "panel", "fg", "muted", "rule", "accent", "waiting", "prefill", "decode", "cached", "idle", "hatch", "bad"];

/** The colours of the page's style as they are now. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function rowHeight(slots) {
  if (slots <= 8) return 22;
  if (slots <= 16) return 16;
  return slots <= 32 ? 10 : slots <= 64 ? 6 : 4;
}

/**
 * Draw what happened in the `seconds` before `until`.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {any} state
 * @param {{until: number, seconds: number, selected: number | null,
 *   colours: Record<string, string>}} view
 * @returns {{bars: any[], groups: any[], hit: (x: number, y: number) => number | null}} what was
 *   drawn, and the key of the request at a point in CSS pixels
 */
export function drawChart(canvas, state, view) {
  const from = view.until - view.seconds;
  const bars = barsBetween(state, from, view.until);
  const groups = groupsDrawn(state, bars);
  const row = rowHeight(groups.reduce((sum, group) => sum + group.slots, 0));
  const below = placed(groups, QUEUE + GAP, row);
  const width = Math.max(canvas.clientWidth, GUTTER + RIGHT + 1);
  const height = below + MEMORY + STEPS + AXIS + 2 * GAP;
  const pen = prepared(canvas, width, height);
  const inner = Math.max(1, width - GUTTER - RIGHT);
  const x = (at) => GUTTER + ((at - from) / view.seconds) * inner;
  const top = { queue: 0, memory: below + GAP, steps: below + GAP + MEMORY + GAP };
  const drawing = { pen, x, from, until: view.until, inner, row, colours: view.colours, state };
  drawQueue(drawing, top.queue, view.selected);
  for (const group of groups) drawSlots(drawing, group, view.selected);
  drawMemory(drawing, top.memory);
  drawSteps(drawing, top.steps);
  drawAxis(drawing, top.steps + STEPS, view.seconds);
  const hit = (px, py) => {
    const group = groups.find((each) => each.top <= py && py < each.top + each.slots * row);
    if (!group) return null;
    const slot = Math.floor((py - group.top) / row);
    const at = from + ((px - GUTTER) / inner) * view.seconds;
    const near = (view.seconds / inner) * 4;
    const found = group.bars.filter((bar) => bar.slot === slot && bar.begin - near <= at && at <= bar.end + near);
    return found.length ? found.at(-1).key : null;
  };
  return { bars, groups, hit };
}

/** Give each group its `top`, one below the other from `top` on; returns where the last one ends. */
function placed(groups, top, row) {
  let next = top;
  for (const group of groups) {
    group.top = next + (group.name ? HEAD : 0);
    next = group.top + group.slots * row;
  }
  return next;
}

function prepared(canvas, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.setProperty("height", `${height}px`);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
  pen.textBaseline = "middle";
  return pen;
}

function label({ pen, colours }, text, y) {
  pen.fillStyle = colours.muted;
  pen.textAlign = "right";
  pen.fillText(text, GUTTER - 8, y);
}

/** Parts of a text within the chart's right end, on a ground of their own; those that fit. */
function note({ pen, colours, inner }, parts, y) {
  pen.textAlign = "right";
  const fitting = [...parts];
  while (fitting.length > 1 && pen.measureText(fitting.join(", ")).width > inner - 8) fitting.pop();
  const text = fitting.join(", ");
  const right = GUTTER + inner - 4;
  const width = pen.measureText(text).width;
  pen.globalAlpha = 0.8;
  pen.fillStyle = colours.bg;
  pen.fillRect(right - width - 3, y - 7, width + 6, 14);
  pen.globalAlpha = 1;
  pen.fillStyle = colours.fg;
  pen.fillText(text, right, y);
}

function drawQueue(drawing, top, selected) {
  const { pen, x, from, until, inner, colours, state } = drawing;
  const points = pointsBetween(state.lanes.queue, from, until);
  const most = Math.max(4, ...points.map((point) => point.waiting));
  const y = (waiting) => top + QUEUE - (waiting / most) * (QUEUE - 6);
  label(drawing, "queue", top + QUEUE / 2);
  pen.fillStyle = colours.panel;
  pen.fillRect(GUTTER, top, inner, QUEUE);
  area(drawing, points, (point) => y(point.waiting), top + QUEUE, colours.waiting);
  const row = selected === null ? null : state.rows.get(selected);
  const chosen = row ?? state.past.findLast((each) => each.key === selected);
  if (chosen) {
    const wait = waitOf(chosen, state.at);
    pen.fillStyle = colours.accent;
    const left = Math.max(GUTTER, x(wait.begin));
    pen.fillRect(left, top + QUEUE - 3, Math.max(2, Math.min(x(wait.end), x(until)) - left), 3);
  }
  const now = points.at(-1)?.waiting ?? 0;
  note(drawing, [`${now} waiting`], top + 9);
}

/** A filled step line below `y` of each point, down to `floor`. */
function area({ pen, x, from, until }, points, y, floor, colour) {
  if (points.length === 0) return;
  pen.beginPath();
  pen.moveTo(x(Math.max(from, points[0].at)), floor);
  points.forEach((point, place) => {
    const until_ = place + 1 < points.length ? points[place + 1].at : until;
    pen.lineTo(x(Math.max(from, point.at)), y(point));
    pen.lineTo(x(until_), y(point));
  });
  pen.lineTo(x(until), floor);
  pen.closePath();
  pen.fillStyle = colour;
  pen.fill();
}

function drawSlots(drawing, { name, top, slots, bars, hidden }, selected) {
  const { pen, inner, row, colours } = drawing;
  if (name) {
    pen.fillStyle = colours.muted;
    pen.textAlign = "left";
    pen.fillText(name, GUTTER, top - HEAD / 2);
  }
  for (let slot = 0; slot < slots; slot += 1) {
    pen.fillStyle = colours.panel;
    pen.fillRect(GUTTER, top + slot * row, inner, row - 1);
  }
  hatch(drawing, top, slots * row);
  const every = row >= 16 ? 1 : row >= 10 ? 4 : 8;
  for (let slot = 0; slot < slots; slot += 1) {
    if (slot === 0 || (slot + 1) % every === 0) label(drawing, slot === 0 ? "slot 1" : `${slot + 1}`, top + slot * row + row / 2);
  }
  for (const bar of bars) drawBar(drawing, bar, top + bar.slot * row, bar.key === selected);
  if (hidden > 0) note(drawing, [`and ${hidden} more slots`], top + slots * row - row / 2);
}

/** Idle slots are seen by their pattern, too: thin slanted lines, which bars then cover. */
function hatch({ pen, inner, colours }, top, height) {
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, top, inner, height);
  pen.clip();
  pen.strokeStyle = colours.hatch;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let place = -height; place < inner; place += 9) {
    pen.moveTo(GUTTER + place, top + height);
    pen.lineTo(GUTTER + place + height, top);
  }
  pen.stroke();
  pen.restore();
}

function drawBar({ pen, x, row, colours }, bar, top, selected) {
  const height = row - 1;
  const [left, middle, right] = [x(bar.begin), x(bar.first), x(bar.end)];
  const width = Math.max(1.5, right - left - (bar.open ? 0 : 1));
  pen.fillStyle = colours.decode;
  pen.globalAlpha = bar.own ? 1 : 0.55;
  pen.fillRect(left, top, width, height);
  pen.fillStyle = colours.prefill;
  const prefill = Math.min(width, Math.max(1.5, middle - left));
  pen.fillRect(left, top, prefill, height);
  if (bar.cached > 0) {
    pen.fillStyle = colours.cached;
    const part = Math.max(1, bar.cached * height);
    pen.fillRect(left, top + height - part, Math.max(3, prefill), part);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = colours.bg;
  for (const at of bar.marks) pen.fillRect(x(at), top, 1, height);
  if (selected) {
    pen.strokeStyle = colours.fg;
    pen.lineWidth = 2;
    pen.strokeRect(left - 1, top - 1, width + 2, height + 2);
  }
}

function drawMemory(drawing, top) {
  const { pen, inner, from, until, colours, state } = drawing;
  const points = pointsBetween(state.lanes.memory, from, until);
  label(drawing, "memory", top + MEMORY / 2);
  pen.fillStyle = colours.panel;
  pen.fillRect(GUTTER, top, inner, MEMORY);
  const y = (share) => top + MEMORY * (1 - Math.min(1, share));
  area(drawing, points, (point) => y(point.used + point.cached), top + MEMORY, colours.cached);
  area(drawing, points, (point) => y(point.used), top + MEMORY, colours.decode);
  const last = points.at(-1);
  if (last) note(drawing, [`${Math.round(100 * last.used)} % in use`, `${Math.round(100 * last.cached)} % kept for hits`], top + 9);
}

function drawSteps(drawing, top) {
  const { pen, x, inner, from, until, colours, state } = drawing;
  const points = state.lanes.steps.filter((point) => point.at > from && point.at <= until);
  const { predicted_seconds: predicted, choice } = state.figures ?? {};
  const limit = choice?.step_limit ?? null;
  const longest = Math.max(0.001, predicted ?? 0, ...points.map((point) => point.longest));
  // An objective far above all steps would press them flat: then it is only named.
  const most = 1.15 * (limit !== null && limit < 4 * longest ? Math.max(longest, limit) : longest);
  const y = (seconds) => top + STEPS - 2 - (seconds / most) * (STEPS - 4);
  label(drawing, "step", top + STEPS / 2 - 7);
  label(drawing, "time", top + STEPS / 2 + 7);
  pen.fillStyle = colours.panel;
  pen.fillRect(GUTTER, top, inner, STEPS);
  for (const point of points) {
    const left = x(point.at) - 1;
    pen.fillStyle = colours.idle;
    pen.fillRect(left, y(point.longest), 2, Math.max(1, y(point.shortest) - y(point.longest)));
    pen.fillStyle = colours.fg;
    pen.fillRect(left - 0.5, y(point.median) - 1, 3, 2);
  }
  if (predicted) line(drawing, y(predicted), colours.accent, [5, 4]);
  if (limit !== null && limit < most) line(drawing, y(limit), colours.bad, []);
  const words = [
    points.length ? `measured ${time(points.at(-1).median)}` : "no steps",
    predicted ? `predicted ${time(predicted)}` : null,
    limit === null ? null : `objective ${time(limit)}`,
  ];
  note(drawing, words.filter(Boolean), top + 9);
}

function line({ pen, inner }, y, colour, dash) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.setLineDash(dash);
  pen.beginPath();
  pen.moveTo(GUTTER, y);
  pen.lineTo(GUTTER + inner, y);
  pen.stroke();
  pen.setLineDash([]);
}

function drawAxis({ pen, x, until, colours, state }, top, seconds) {
  const step = [1, 2, 5, 10, 20, 30, 60].find((each) => seconds / each <= 7) ?? 60;
  const behind = state.at - until;
  pen.fillStyle = colours.muted;
  for (let back = Math.ceil(behind / step) * step; back <= behind + seconds; back += step) {
    const place = x(state.at - back);
    pen.textAlign = back === 0 ? "right" : "center";
    pen.fillText(back === 0 ? "now" : `−${back} s`, place, top + AXIS / 2 + 2);
  }
}
