/*
 * Makes the slot charts of a report answer: bars are pointed at and followed through all systems,
 * by mouse, finger and keyboard, and a play-head says what happened at a time. Without scripts the
 * charts are the same, and still.
 */

const ROW = 10;
const THIN = 8;
const SECONDS_OF_PLAY = 12;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/* A lane with its marks and its play-head; `bars` is empty where requests cannot be told apart. */
function makeLane(node, facts) {
  const slots = node.querySelector(".slots");
  const drawing = slots.querySelector("svg");
  const [box, svg] = [drawing.viewBox.baseVal, drawing.namespaceURI];
  const marks = document.createElementNS(svg, "svg");
  marks.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  marks.setAttribute("preserveAspectRatio", "none");
  marks.setAttribute("class", "marks");
  const [followed, pointed] = ["followed", "pointed"].map((name) => {
    const path = marks.appendChild(document.createElementNS(svg, "path"));
    path.setAttribute("class", name);
    return path;
  });
  slots.append(marks);
  const head = element("div", { className: "head", hidden: true });
  const moment = element("p", { className: "moment small", hidden: true });
  node.querySelector(".time").append(head);
  node.querySelector(".time").after(moment);
  const bars = barsOf(facts);
  const lane = { node, slots, facts, bars, followed, pointed, head, moment, box, rows: box.height / ROW };
  return Object.assign(lane, { waits: waitsOf(facts, bars) });
}

/* Rectangles over the bars of a request. */
function outline(lane, request) {
  const scale = lane.box.width / lane.facts.span;
  const parts = lane.bars
    .filter((bar) => bar.request === request && bar.slot % lane.facts.every === 0)
    .map((bar) => {
      const left = bar.begin * scale;
      const width = Math.max(2, Math.min(bar.end * scale, lane.box.width) - left);
      return `M${left} ${(bar.slot / lane.facts.every) * ROW}h${width}v${ROW}h${-width}z`;
    });
  return parts.join("");
}

/* The bar of a lane at a point of the window, or the nearest one a few pixels away: where rows are
   too thin for a finger, one in the row above or below. */
function barUnder(lane, x, y) {
  const box = lane.slots.getBoundingClientRect();
  const at = ((x - box.left) / box.width) * lane.facts.span;
  const row = Math.floor(((y - box.top) / box.height) * lane.rows);
  const near = (5 / box.width) * lane.facts.span;
  for (const away of box.height / lane.rows < THIN ? [0, -1, 1] : [0]) {
    const found = barAt(lane.bars, (row + away) * lane.facts.every, at, near);
    if (found !== null) return found;
  }
  return null;
}

/* The bar that an arrow key leads to from another one. */
function barBeside(lane, bar, key) {
  const drawn = lane.bars.filter((each) => each.slot % lane.facts.every === 0);
  if (bar === null) return drawn[0] ?? null;
  if (key === "ArrowLeft") return drawn.filter((each) => each.slot === bar.slot && each.begin < bar.begin).at(-1) ?? bar;
  if (key === "ArrowRight") return drawn.find((each) => each.slot === bar.slot && each.begin > bar.begin) ?? bar;
  const step = key === "ArrowUp" ? -lane.facts.every : lane.facts.every;
  return barAt(lane.bars, bar.slot + step, (bar.begin + bar.end) / 2, Infinity) ?? bar;
}

/* One line for each thing that is known of a bar's request. */
function linesOf(chart, lane, bar) {
  const { ticks, requests } = chart.facts;
  const found = timesOf(lane.facts, lane.bars, bar.request, ticks);
  const lines = [`Request ${requests[bar.request]}${lane.facts.slots ? `, slot ${bar.slot + 1}` : ""}`];
  const first = lane.facts.slots ? "prefilled" : "first token after";
  const waited = found.waited === null ? "" : `waited ${time(found.waited)}, `;
  lines.push(`${waited}${first} ${time(found.prefill)}, decoded ${time(found.decode)}`);
  if (found.told) {
    const { prompt, output, cached } = found.told;
    lines.push(`${counted(prompt, "prompt token")}, ${cached.toLocaleString("en")} cached; ${output.toLocaleString("en")} answered`);
  }
  const why = whyOf(lane.facts, lane.bars, found, (request) => requests[request], ticks);
  return why ? [...lines, why] : lines;
}

/* Why a lane tells nothing of a request, which may have been refused, or be another replica's. */
function missing(lane) {
  return lane.bars.length === 0 ? "not drawn one by one" : "took none of the slots in this chart";
}

function detailsOf(chart, request) {
  const { ticks, requests } = chart.facts;
  const name = (other) => requests[other];
  const rows = chart.lanes.map((lane) => {
    const found = timesOf(lane.facts, lane.bars, request, ticks);
    const system = element("th", { scope: "row", textContent: lane.facts.system });
    if (found === null) return element("tr", {}, system, element("td", { colSpan: 7, textContent: missing(lane) }));
    const { told, waited, prefill, decode, whole } = found;
    const cells = [waited, prefill, decode, whole].map(time);
    cells.push(...(told ? [told.cached, told.output].map((each) => each.toLocaleString("en")) : ["–", "–"]));
    const why = whyOf(lane.facts, lane.bars, found, name, ticks);
    const words = element("td", { className: "words", textContent: why });
    return element("tr", {}, system, ...cells.map((text) => element("td", { textContent: text })), words);
  });
  const labels = ["system", "waited", "prefill", "decode", "in all", "cached", "tokens", "why"];
  const heads = labels.map((label) => element("th", { scope: "col", textContent: label }));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
  const scroll = element("div", { className: "scroll", tabIndex: 0, role: "region" }, table);
  scroll.setAttribute("aria-label", `Request ${name(request)} in each system`);
  return [element("h3", { textContent: `Request ${name(request)}` }), scroll];
}

/* Show which bar is pointed at, and what it is; null: none. */
function point(chart, lane, bar) {
  chart.bar = bar;
  chart.tip.hidden = bar === null;
  for (const each of chart.lanes) each.pointed.setAttribute("d", bar === null ? "" : outline(each, bar.request));
  if (bar === null) return;
  chart.tip.replaceChildren(...linesOf(chart, lane, bar).map((line) => element("p", { textContent: line })));
  const [own, box] = [chart.node.getBoundingClientRect(), lane.slots.getBoundingClientRect()];
  const middle = (Math.min(bar.end, lane.facts.span) + bar.begin) / 2 / lane.facts.span;
  const left = box.left - own.left + middle * box.width - chart.tip.offsetWidth / 2;
  chart.tip.style.left = `${Math.max(0, Math.min(left, own.width - chart.tip.offsetWidth))}px`;
  chart.tip.style.top = `${box.bottom - own.top + 6}px`;
}

/* Mark a request in all systems and tell them apart in a table; null: none. */
function follow(chart, request) {
  chart.request = request;
  chart.node.classList.toggle("following", request !== null);
  for (const lane of chart.lanes) lane.followed.setAttribute("d", request === null ? "" : outline(lane, request));
  chart.who.value = request === null ? "" : chart.facts.requests[request];
  chart.details.replaceChildren(...(request === null ? [] : detailsOf(chart, request)));
}

function showMoment(chart, at) {
  const { until, ticks } = chart.facts;
  chart.when.value = String(Math.round((1000 * at) / until));
  chart.when.setAttribute("aria-valuetext", time(at / ticks));
  for (const lane of chart.lanes) {
    lane.head.hidden = false;
    lane.head.style.left = `${(100 * at) / until}%`;
    lane.moment.hidden = lane.bars.length === 0;
    lane.moment.textContent = momentOf(lane.facts, lane.bars, lane.waits, at, ticks);
  }
}

function play(chart) {
  const { until } = chart.facts;
  let at = Number(chart.when.value) >= 1000 ? 0 : (Number(chart.when.value) / 1000) * until;
  let before = null;
  const step = (now) => {
    if (!chart.playing) return;
    at = Math.min(until, at + (before === null ? 0 : ((now - before) / 1000 / SECONDS_OF_PLAY) * until));
    before = now;
    showMoment(chart, at);
    if (at >= until) setPlaying(chart, false);
    else requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function setPlaying(chart, playing) {
  chart.playing = playing;
  chart.button.textContent = playing ? "Pause" : "Play";
  if (playing) play(chart);
}

function onKey(chart, lane, event) {
  if (event.key.startsWith("Arrow")) point(chart, lane, barBeside(lane, chart.bar, event.key));
  else if (event.key === "Enter" || event.key === " ") follow(chart, chart.bar && chart.bar.request);
  else if (event.key === "Escape") {
    point(chart, lane, null);
    follow(chart, null);
  } else return;
  event.preventDefault();
}

/* A lane that can be pointed at, tapped and walked with the arrow keys. */
function listen(chart, lane) {
  const { slots } = lane;
  slots.tabIndex = 0;
  slots.setAttribute("role", "group");
  slots.addEventListener("pointermove", (event) => point(chart, lane, barUnder(lane, event.clientX, event.clientY)));
  slots.addEventListener("pointerleave", () => point(chart, lane, null));
  slots.addEventListener("blur", () => point(chart, lane, null));
  slots.addEventListener("focus", () => {
    chart.bar = null;
  });
  slots.addEventListener("click", (event) => {
    const bar = barUnder(lane, event.clientX, event.clientY);
    follow(chart, bar === null || bar.request === chart.request ? null : bar.request);
  });
  slots.addEventListener("keydown", (event) => onKey(chart, lane, event));
}

function setUp(node) {
  const facts = JSON.parse(node.querySelector(".facts").textContent);
  const lanes = [...node.querySelectorAll(".lane")].map((lane, place) => makeLane(lane, facts.lanes[place]));
  if (lanes.every((lane) => lane.bars.length === 0)) return;
  const found = (name) => node.querySelector(`.follow ${name}`);
  const tip = node.appendChild(element("div", { className: "tip", hidden: true }));
  tip.setAttribute("role", "status");
  const chart = { node, facts, lanes, tip, bar: null, request: null, playing: false };
  Object.assign(chart, { button: found(".play"), when: found("[type=range]"), who: found("[type=text]"), details: found(".details") });
  found(".problem").hidden = true;
  node.querySelector(".follow").hidden = false;
  for (const lane of lanes.filter((each) => each.bars.length > 0)) listen(chart, lane);
  chart.button.addEventListener("click", () => setPlaying(chart, !chart.playing));
  chart.when.addEventListener("input", () => {
    setPlaying(chart, false);
    showMoment(chart, (Number(chart.when.value) / 1000) * facts.until);
  });
  chart.who.addEventListener("change", () => {
    const name = chart.who.value.trim();
    const request = facts.requests.indexOf(name);
    found(".problem").textContent = `There is no request ${name} here.`;
    found(".problem").hidden = name === "" || request >= 0;
    if (name === "" || request >= 0) follow(chart, request < 0 ? null : request);
  });
}

for (const node of document.querySelectorAll(".slotchart")) setUp(node);
