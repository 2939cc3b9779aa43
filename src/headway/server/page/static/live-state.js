/**
 * What the page knows of the batch, made from a snapshot and the frames that follow it.
 *
 * Pure: no DOM, no clock. Where several engines serve, each has slots and a queue of its own. Times are seconds on the server's clock, which has no meaning elsewhere;
 * `state.at` is the latest of them. A request's life becomes spans, one for each time that it held a
 * slot, and what is older than `KEPT_SECONDS` is forgotten.
 */

export const KEPT_SECONDS = 300;
/** Of ended requests so many are kept, the latest. */
const MOST_PAST = 2000;
const MOST_MARKS = 64;

/** The fields of a row, in the order in which the server sends them. */
export const FIELDS = [
  "key", "name", "service_class", "max_tokens", "ttft", "tpot", "slot", "arrival", "scheduled_at",
  "first_token_at", "prompt", "cached", "computed", "generated", "preemptions", "deferred", "late",
  "replica",
];

/**
 * @typedef {{slot: number, replica: number, begin: number, end: number | null, first: number | null,
 *   marks: number[]}} Span  `end` is null while it lasts, `first` the first token's time within it;
 *   `marks` are times at which more of the prompt was computed
 * @typedef {{[field: string]: any, spans: Span[], seen: number, end: number | null,
 *   reason: string | null}} Row  the fields above; `seen`: when its progress was told last
 */

/** A state that knows nothing yet. */
export function emptyState() {
  return {
    since: -1,
    number: -1,
    at: 0,
    model: "",
    /** @type {Map<number, Row>} */
    rows: new Map(),
    /** @type {Row[]} */
    past: [],
    queue: { slots: 0, running: 0, waiting: 0, waits_for: null, next: [] },
    /** Of several engines, each one's; empty where there is one. @type {Map<number, any>} */
    queues: new Map(),
    figures: null,
    lanes: { queue: [], memory: [], steps: [] },
  };
}

/**
 * Take a snapshot in: what was seen before stays as the past, unless the server has begun to collect
 * anew, when keys mean other requests.
 */
export function applySnapshot(state, told) {
  if (told.since !== state.since) Object.assign(state, emptyState(), { since: told.since });
  for (const end of told.gone) setGone(state, end);
  const listed = new Set(told.rows.map((values) => values[0]));
  for (const key of [...state.rows.keys()]) {
    if (!listed.has(key)) leave(state, key, told.at, null);
  }
  Object.assign(state, { number: told.number, at: told.at, model: told.model, queue: told.queue });
  state.queues = new Map((told.queues ?? []).map((queue) => [queue.replica, queue]));
  for (const values of told.rows) setRow(state, values);
  if (told.figures) setFigures(state, told.figures);
  note(state);
}

/** Take a frame in; false where one is missing before it, which only a new snapshot mends. */
export function applyFrame(state, told) {
  if (told.number !== state.number + 1) return false;
  state.number = told.number;
  state.at = Math.max(state.at, told.at);
  if (told.queue) state.queue = told.queue;
  for (const queue of told.queues ?? []) state.queues.set(queue.replica, queue);
  for (const values of told.rows ?? []) setRow(state, values);
  for (const [key, computed, generated] of told.progress ?? []) {
    setProgress(state, state.rows.get(key), computed, generated);
  }
  for (const end of told.gone ?? []) setGone(state, end);
  if (told.steps) state.lanes.steps.push({ at: state.at, ...told.steps });
  if (told.figures) setFigures(state, told.figures);
  note(state);
  forget(state);
  return true;
}

function setRow(state, values) {
  const told = Object.fromEntries(FIELDS.map((field, place) => [field, values[place]]));
  const row = state.rows.get(told.key) ?? { spans: [], seen: state.at, end: null, reason: null };
  const progressed = row.computed !== told.computed || row.generated !== told.generated;
  const open = row.spans.at(-1);
  const moved = open && (open.slot !== told.slot || open.replica !== told.replica);
  if (moved && open.end === null) open.end = state.at;
  if (told.slot >= 0 && (!open || open.end !== null)) {
    const begin = row.spans.length ? state.at : (told.scheduled_at ?? state.at);
    row.spans.push({ slot: told.slot, replica: told.replica, begin, end: null, first: null, marks: [] });
  }
  Object.assign(row, told);
  const span = row.spans.at(-1);
  if (span && span.end === null && span.first === null && row.first_token_at !== null) {
    span.first = Math.max(span.begin, row.first_token_at);
  }
  if (progressed) mark(state, row);
  state.rows.set(told.key, row);
}

function setProgress(state, row, computed, generated) {
  if (!row) return;
  Object.assign(row, { computed, generated });
  mark(state, row);
}

function mark(state, row) {
  row.seen = state.at;
  const span = row.spans.at(-1);
  if (span && span.end === null && span.first === null && span.marks.length < MOST_MARKS) {
    span.marks.push(state.at);
  }
}

function setGone(state, [key, at, reason, generated]) {
  const row = state.rows.get(key);
  if (row) row.generated = generated;
  leave(state, key, at, reason);
}

function leave(state, key, at, reason) {
  const row = state.rows.get(key);
  if (!row) return;
  state.rows.delete(key);
  row.end = at;
  row.reason = reason;
  const span = row.spans.at(-1);
  if (span && span.end === null) span.end = Math.max(span.begin, at);
  state.past.push(row);
  if (state.past.length > MOST_PAST) state.past.shift();
}

function setFigures(state, figures) {
  state.figures = figures;
  const left = new Set(figures.replicas?.map((replica) => replica.id));
  for (const replica of [...state.queues.keys()]) if (!left.has(replica)) state.queues.delete(replica);
  const { kv_blocks: blocks, free_blocks: free, cached_blocks: cached } = figures;
  if (blocks > 0) {
    const used = (blocks - free) / blocks;
    state.lanes.memory.push({ at: state.at, used, cached: cached / blocks });
  }
}

function note(state) {
  const lane = state.lanes.queue;
  const last = lane.at(-1);
  if (!last || last.waiting !== state.queue.waiting) {
    lane.push({ at: state.at, waiting: state.queue.waiting });
  }
}

/** Forget what is too long ago, but of each lane the last thing before that. */
function forget(state) {
  const oldest = state.at - KEPT_SECONDS;
  for (const lane of Object.values(state.lanes)) {
    while (lane.length > 1 && lane[1].at < oldest) lane.shift();
  }
  while (state.past.length && state.past[0].end < oldest) state.past.shift();
}

/** The request with this key, whether it lives or is over. */
export function findRow(state, key) {
  return state.rows.get(key) ?? state.past.findLast((row) => row.key === key) ?? null;
}

/** What a request does: "waiting", "prefill", "decode" or "ended". */
export function phaseOf(row) {
  if (row.end !== null) return "ended";
  if (row.slot < 0) return "waiting";
  const known = row.prompt + row.generated;
  return row.first_token_at === null || known - row.computed > 8 ? "prefill" : "decode";
}

/** Rows that hold a slot now, by engine and slot; of one engine only where `replica` is given. */
export function runningRows(state, replica = null) {
  return [...state.rows.values()]
    .filter((row) => row.slot >= 0 && (replica === null || row.replica === replica))
    .sort((a, b) => a.replica - b.replica || a.slot - b.slot);
}

/** The queue that a request is in: its engine's. */
export function queueOf(state, row) {
  return state.queues.get(row.replica) ?? state.queue;
}

/** Keys of those that wait, in the order in which each engine takes them. */
export function nextKeys(state) {
  if (state.queues.size === 0) return state.queue.next;
  return [...state.queues.values()].flatMap((queue) => queue.next);
}

/**
 * The engines behind the server, by their ids; empty where there is one.
 *
 * @returns {{id: number, state: string, role?: string, slots: number, running: number}[]}
 */
export function replicasOf(state) {
  const known = new Map((state.figures?.replicas ?? []).map((replica) => [replica.id, replica]));
  for (const [id, queue] of state.queues) {
    const { slots, running } = queue;
    known.set(id, { state: "ready", ...known.get(id), id, slots, running });
  }
  return known.size < 2 ? [] : [...known.values()].sort((a, b) => a.id - b.id);
}

/** The step chart's last value, and sums over the last seconds. */
export function recentSteps(state, seconds) {
  const recent = state.lanes.steps.filter((each) => each.at > state.at - seconds);
  if (recent.length === 0) return null;
  const count = recent.reduce((sum, each) => sum + each.count, 0);
  const weighted = recent.reduce((sum, each) => sum + each.count * each.median, 0);
  return { count, median: weighted / count, longest: Math.max(...recent.map((one) => one.longest)) };
}
