/**
 * The page's sentences: why a request waits, which slots idle, what binds, what a token costs, and
 * what another objective would do. Pure: from the state and the server's answers to text.
 */

import { phaseOf, queueOf, recentSteps, replicasOf, runningRows } from "./live-state.js";

/** @param {number | null | undefined} value in seconds */
export function time(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "?";
  if (value >= 100) return `${Math.round(value)} s`;
  return value >= 1 ? `${three(value)} s` : `${three(1000 * value)} ms`;
}

/** Two times with one unit where both have the same. */
export function times(one, other) {
  const [first, second] = [time(one), time(other)];
  const [number, unit] = first.split(" ");
  return second.endsWith(` ${unit}`) ? `${number} / ${second}` : `${first} / ${second}`;
}

/** A number with three digits, or all of those before the point. */
export function three(value) {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** A share from 0 to 1 as percent. */
export function percent(share) {
  return share === null || share === undefined ? "?" : `${three(100 * share)} %`;
}

function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** What is shown of an id: its kind is known, and its end tells it from others. */
export function shortName(row) {
  if (row.name === null) return "another caller's";
  const id = row.name.replace(/^(chatcmpl|cmpl|resp|msg|req)[-_]/, "");
  return id.length > 12 ? `${id.slice(0, 8)}…${id.slice(-3)}` : id;
}

/** Why a request is where it is: one sentence or two. */
export function whyOf(row, state) {
  switch (phaseOf(row)) {
    case "ended":
      return endedWords(row);
    case "waiting":
      return `Waits since ${time(state.at - row.arrival)}: ${waitWords(row, state)}`;
    case "prefill":
      return prefillWords(row);
    default:
      return decodeWords(row);
  }
}

function endedWords(row) {
  const how = {
    stop: "it was complete",
    length: "its length was reached",
    abort: "its client left or cancelled it",
    error: "it was refused or failed",
  };
  const why = how[row.reason] ?? "it is not among the requests that are shown any more";
  const waited = row.scheduled_at === null ? "" : `, ${time(row.scheduled_at - row.arrival)} of it waiting`;
  const tokens = count(row.generated, "token");
  return `Ended after ${time(row.end - row.arrival)}${waited}, with ${tokens}: ${why}.`;
}

function waitWords(row, state) {
  const queue = queueOf(state, row);
  const place = queue.next.indexOf(row.key);
  const before = place > 0 ? ` ${count(place, "request")} ${place === 1 ? "is" : "are"} before it.` : "";
  if (row.late) return `it cannot be on time any more, so it goes behind those that can.${before}`;
  const back = row.preemptions > 0 ? ` It was set back ${count(row.preemptions, "time")} to make room.` : "";
  return reasonWords(state, queue) + before + back;
}

/** The queue with most requests in it: what it waits for is what is asked first. */
function longestQueue(state) {
  return [...state.queues.values()].reduce((most, queue) => (queue.waiting > most.waiting ? queue : most), { ...state.queue, waiting: 0 });
}

/** The engine's number where a queue is one of several engines', else null. */
function replicaOf(state, queue) {
  return state.queues.get(queue.replica) === queue ? queue.replica : null;
}

/** Why the next that waits in a queue does not run. */
function reasonWords(state, queue) {
  const { figures } = state;
  const replica = replicaOf(state, queue);
  if (queue.waits_for === "slot") {
    const whose = replica === null ? "" : ` of replica ${replica}`;
    return `${queue.running} of ${count(queue.slots, "slot")}${whose} are taken${nextEnd(state, replica)}.`;
  }
  if (queue.waits_for === "memory") {
    const free = figures && replica === null ? ` ${figures.free_blocks} of ${figures.kv_blocks} KV blocks are free, and` : "";
    return `memory is short:${free} it would need more until its end.`;
  }
  if (queue.waits_for === "step") return "others have just ended, and the next step may take their place.";
  const prefills = runningRows(state, replica).filter((each) => phaseOf(each) === "prefill" && !each.deferred);
  if (prefills.length > 0) {
    const left = prefills.reduce((sum, each) => sum + each.prompt + each.generated - each.computed, 0);
    return `other prompts are computed first, ${count(left, "token")} to go.`;
  }
  return policyWords(figures);
}

function policyWords(figures) {
  const held = {
    static: "the next batch begins when all answers of this one have ended",
    dynamic: "the policy fills a batch before it begins",
    sequential: "one request is served after another",
    paced: "with more in a step, it would take longer than the objectives allow",
  };
  const policy = figures?.policy ?? "its policy";
  return `held back by the policy (${policy}): ${held[policy] ?? "the next step may admit more"}.`;
}

/** When the next slot becomes free, as far as that is known. */
function nextEnd(state, replica) {
  const left = runningRows(state, replica)
    .filter((row) => row.max_tokens !== null)
    .map((row) => Math.max(1, row.max_tokens - row.generated));
  if (left.length === 0) return "";
  const fewest = Math.min(...left);
  const step = recentSteps(state, 5);
  const seconds = step ? ` (about ${time(fewest * step.median)})` : "";
  return `; one is free after ${count(fewest, "more token")} at the latest${seconds}`;
}

function prefillWords(row) {
  if (row.deferred) return "Holds a slot and waits: another request computes the prefix that both share.";
  const whole = row.prompt + row.generated;
  const cached = row.cached > 0 ? `, ${row.cached.toLocaleString("en")} of them from the cache` : "";
  const again = row.preemptions > 0 ? " again, as it was set back" : "";
  return `Computes its prompt${again}: ${row.computed.toLocaleString("en")} of ${count(whole, "token")}${cached}.`;
}

function decodeWords(row) {
  const most = row.max_tokens === null ? "" : ` of at most ${row.max_tokens.toLocaleString("en")}`;
  const tpot = row.generated > 1 ? (row.seen - row.first_token_at) / (row.generated - 1) : null;
  const pace = tpot === null ? "" : `, ${time(tpot)} a token`;
  const asked = row.tpot === null ? "" : ` (${time(row.tpot)} asked for)`;
  return `Answers: token ${row.generated.toLocaleString("en")}${most}${pace}${asked}. First token after ${time(row.first_token_at - row.arrival)}.`;
}

/** Which slots idle, and why. */
export function idleWords(state) {
  const { slots, running, waiting } = state.queue;
  if (!slots) return "No slots are known yet.";
  const idle = slots - running;
  if (idle === 0) return `No slot is idle: all ${slots} are taken.`;
  const free = replicasOf(state).length > 0 ? idleOfEach(state) : idleSlots(state, slots);
  const named = free.length > 6 ? `${free.slice(0, 6).join(", ")} …` : free.join(", ");
  const why = waiting === 0 ? "nobody waits for them" : `though ${waitingWords(waiting)}: ${reasonWords(state, longestQueue(state))}`;
  return `${idle} of ${count(slots, "slot")} idle (${named}): ${why.replace(/\.$/, "")}.`;
}

function idleSlots(state, slots) {
  const taken = new Set(runningRows(state).map((row) => row.slot));
  const free = [];
  for (let slot = 0; slot < slots && free.length <= 6; slot += 1) if (!taken.has(slot)) free.push(slot + 1);
  return free;
}

function idleOfEach(state) {
  const some = replicasOf(state).filter((replica) => replica.slots > replica.running);
  return some.map((replica) => `${replica.slots - replica.running} of replica ${replica.id}`);
}

/** Which of several engines serve, and what the others do; empty where there is one. */
export function replicaWords(state) {
  const replicas = replicasOf(state);
  if (replicas.length === 0) return "";
  const others = replicas.filter((replica) => replica.state !== "ready");
  if (others.length === 0) return `All ${replicas.length} replicas serve.`;
  const named = others.map((replica) => `replica ${replica.id} is ${replica.state}`);
  return `${replicas.length - others.length} of ${replicas.length} replicas serve; ${named.join(", ")}.`;
}

/** What the queue waits for, for those who select nobody. */
export function queueWords(state) {
  const { waiting } = state.queue;
  if (waiting === 0) return "Nobody waits.";
  return `${waitingWords(waiting)}: ${reasonWords(state, longestQueue(state))}`;
}

function waitingWords(waiting) {
  return `${count(waiting, "request")} ${waiting === 1 ? "waits" : "wait"}`;
}

function answers(width) {
  if (width < 1) return "one answer at a time";
  return three(width) === "1" ? "one answer" : `${three(width)} answers at once`;
}

/** What binds the batch: `choice` is of the figures, or an explanation of `/slo`. */
export function bindsWords(choice, figures) {
  if (!choice) return "What binds is not known before requests have been served.";
  const width = answers(choice.width);
  const limit = time(choice.step_limit);
  switch (choice.limiting_factor) {
    case "arrivals":
      return `Arrivals bind: what comes needs ${answers(choice.batch)}, and there may be ${three(choice.width)}.`;
    case "objective":
      return choice.widths.objective === 0
        ? `The objective binds: not even an answer alone keeps steps within ${limit}.`
        : `The objective binds: with more than ${width} steps take longer than ${limit}.`;
    case "memory":
      return `Memory binds: the KV cache of ${(figures.kv_blocks * figures.block_size).toLocaleString("en")} tokens holds ${width}.`;
    case "compute":
      return `Compute binds: beyond ${answers(choice.widths.compute)}, hardly more is served.`;
    default:
      return `The limit ${choice.limit_setting} binds: ${width}.`;
  }
}

const BOUND_BEFORE = {
  arrivals: "arrivals bound",
  objective: "the objective bound",
  memory: "memory bound",
  compute: "compute bound",
  limit: "a limit bound",
};

/** Since when that binds which binds, and why; empty where nothing else did before. */
export function changeWords(state) {
  const { change, choice } = state.figures ?? {};
  if (!change || change.before === null || change.after !== choice?.limiting_factor) return "";
  const why = change.because ? ` Then ${change.because}.` : "";
  return `Until ${time(Math.max(0, Math.round(state.at - change.at)))} ago ${BOUND_BEFORE[change.before]}.${why}`;
}

/** What a million generated tokens cost. @param {number} price of the machine, for an hour */
export function costWords(price, figures) {
  if (!(price > 0)) return "Give what the machine costs an hour to see what a token costs.";
  const million = (rate) => three((price / (3600 * rate)) * 1e6);
  const now = figures?.generated_per_second ?? 0;
  const full = figures?.choice?.tokens_per_second ?? 0;
  const parts = [];
  if (now > 0) parts.push(`${million(now)} at the present ${three(now)} tokens/s`);
  if (full > 0) parts.push(`${million(full)} with a full batch, ${three(full)} tokens/s`);
  if (parts.length === 0) return "A million tokens cost: not known while nothing is generated.";
  return `A million tokens cost ${parts.join("; ")}.`;
}

/** What other objectives would do. @param {any} report the server's answer @param {string} asked */
export function whatIfWords(report, asked, figures) {
  const found = report.explanation;
  if (!found) return `What ${asked} would do is not known before requests have been served.`;
  if (found.unheld.length > 0) {
    const each = found.unheld.map((one) => `${one.asked} cannot be held here; the nearest that can is ${one.nearest}`);
    return `${each.join(". ")}.`;
  }
  const now = figures?.choice;
  const change = now ? ` (now ${three(now.width)})` : "";
  const rate = now?.requests_per_second;
  const more = rate ? `, ${signed(found.requests_per_second / rate - 1)} against now` : "";
  return (
    `With ${asked}: ${answers(found.width)}${change}, ${three(found.tokens_per_second)} tokens/s and ` +
    `${three(found.requests_per_second)} requests/s at most${more}. ${bindsWords(found, figures)}`
  );
}

function signed(share) {
  const text = three(Math.abs(100 * share));
  return `${share < 0 ? "−" : "+"}${text} %`;
}

/** What a screen reader says now and then. */
export function summaryWords(state) {
  const { slots, running, waiting } = state.queue;
  const rate = state.figures ? `, ${three(state.figures.generated_per_second)} tokens a second` : "";
  return `${running} of ${slots} slots taken, ${waiting} waiting${rate}.`;
}
