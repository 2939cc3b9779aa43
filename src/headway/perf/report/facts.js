/*
 * What the facts of a slot chart say: which bars there are, and a request's time in words. Plain
 * functions of `headway.perf.report.follow`'s data; times are ticks until they are written.
 */

const BAR = 5;
const FACTS = 4;
/* Ticks by which times differ that are the same. */
const SAME = 1;

function three(value) {
  if (value === 0) return "0";
  if (value >= 99.95) return Math.round(value).toLocaleString("en");
  if (value >= 9.995) return value.toFixed(1);
  return value >= 0.9995 ? value.toFixed(2) : value.toPrecision(3);
}

function time(seconds) {
  if (seconds === null) return "–";
  return seconds >= 0.9995 ? `${three(seconds)} s` : `${three(1000 * seconds)} ms`;
}

function counted(number, one) {
  return `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;
}

/* The bars of a lane, from the earliest on. */
function barsOf(lane) {
  const found = [];
  for (let at = 0; at < lane.bars.length; at += BAR) {
    const [slot, begin, first, end, request] = lane.bars.slice(at, at + BAR);
    found.push({ slot, begin, first, end, request });
  }
  return found.sort((one, other) => one.begin - other.begin);
}

/* What is known of a request, or null. */
function factsOf(lane, request) {
  const [sent, prompt, output, cached] = lane.facts.slice(FACTS * request, FACTS * (request + 1));
  return sent === undefined || sent < 0 ? null : { sent, prompt, output, cached };
}

/* The bar of a slot at a time, or the nearest one within `near`. */
function barAt(bars, slot, at, near) {
  const away = (bar) => Math.max(bar.begin - at, at - bar.end, 0);
  let found = null;
  for (const bar of bars) {
    if (bar.slot !== slot || away(bar) > near) continue;
    if (found === null || away(bar) <= away(found)) found = bar;
  }
  return found;
}

/* Seconds that a request waited, read its prompt, wrote and took in all; null: it has no bar. */
function timesOf(lane, bars, request, ticks) {
  const mine = bars.filter((bar) => bar.request === request);
  if (mine.length === 0) return null;
  const told = factsOf(lane, request);
  const sum = (part) => mine.reduce((total, bar) => total + part(bar), 0) / ticks;
  const waited = told === null ? null : Math.max(0, mine[0].begin - told.sent) / ticks;
  return {
    mine,
    told,
    waited: lane.slots === 0 ? null : waited,
    prefill: sum((bar) => bar.first - bar.begin),
    decode: sum((bar) => bar.end - bar.first),
    whole: told === null ? null : (mine.at(-1).end - told.sent) / ticks,
  };
}

/* Why a request waited, in a sentence or two. */
function whyOf(lane, bars, found, name, ticks) {
  const parts = [];
  const [first] = found.mine;
  const at = (bar) => time(bar.end / ticks);
  if (found.waited === null) return "";
  if (found.waited < 0.02 * found.whole) parts.push("It hardly waited.");
  else parts.push(waitedFor(bars, first, found.told.sent, name, at));
  if (found.mine.length > 1) {
    const away = found.mine.slice(1).reduce((sum, bar, n) => sum + bar.begin - found.mine[n].end, 0);
    parts.push(`Preempted: ${counted(found.mine.length - 1, "time")}, without a slot for ${time(away / ticks)}.`);
  }
  return parts.join(" ");
}

function waitedFor(bars, first, sent, name, at) {
  const over = bars.filter((bar) => bar.end <= first.begin + SAME && bar.end > sent);
  const last = over.reduce((one, bar) => (one === null || bar.end >= one.end ? bar : one), null);
  const before = over.filter((bar) => bar.slot === first.slot).at(-1) ?? null;
  const slot = (bar) => `slot ${bar.slot + 1}`;
  const left = (bar) => `request ${name(bar.request)} left ${slot(bar)} at ${at(bar)}`;
  if (last === null) return "Slots were free: it waited for its batch to form.";
  if (before !== null && last.end - before.end <= SAME) return `It waited until ${left(before)}.`;
  if (before === null) return `Slot ${first.slot + 1} was free, but it was let in only when ${left(last)}.`;
  return `Slot ${first.slot + 1} was free from ${at(before)} on, but it was let in only when ${left(last)}.`;
}

/* How many requests run, read their prompts and wait at a time, in words. */
function momentOf(lane, bars, waits, at, ticks) {
  const running = bars.filter((bar) => bar.begin <= at && at < bar.end);
  const reading = running.filter((bar) => at < bar.first).length;
  if (lane.slots === 0) {
    return `${time(at / ticks)}: ${running.length} in flight, ${reading} of them without a first token`;
  }
  const waiting = waits.filter(([sent, begin]) => sent <= at && at < begin).length;
  const taken = `${running.length} of ${counted(lane.slots, "slot")} taken`;
  return `${time(at / ticks)}: ${taken}, ${reading} reading prompts; ${counted(waiting, "request")} waiting`;
}

/* For each request with a bar, when it was sent and when it got a slot. */
function waitsOf(lane, bars) {
  const waits = new Map();
  for (const bar of bars) {
    const told = factsOf(lane, bar.request);
    if (told !== null && !waits.has(bar.request)) waits.set(bar.request, [told.sent, bar.begin]);
  }
  return [...waits.values()];
}
