/**
 * From the state to what is drawn: bars in seconds and slots. Pure, like the state.
 */

/** Slots that are drawn at most. */
const MOST_SLOTS = 96;
const LEAST_SLOTS = 8;

/**
 * @typedef {{key: number, slot: number, begin: number, first: number, end: number, cached: number,
 *   marks: number[], own: boolean, open: boolean}} Bar  prefill from `begin` to `first`, decode from
 *   there to `end`; `cached` is the share of the prompt that came from the prefix cache
 */

/**
 * The bars that lie between two times, cut to them.
 *
 * @param {any} state
 * @param {number} from
 * @param {number} until
 * @returns {Bar[]}
 */
export function barsBetween(state, from, until) {
  const bars = [];
  for (const row of [...state.past, ...state.rows.values()]) {
    for (const span of row.spans) {
      const end = Math.min(span.end ?? state.at, until);
      if (end <= from || span.begin >= until) continue;
      const begin = Math.max(span.begin, from);
      const first = span.first === null ? end : Math.min(Math.max(span.first, begin), end);
      bars.push({
        key: row.key,
        slot: span.slot,
        begin,
        first,
        end: Math.max(end, begin),
        cached: row.prompt > 0 ? row.cached / row.prompt : 0,
        marks: span.marks.filter((at) => at > begin && at < first),
        own: row.name !== null,
        open: span.end === null,
      });
    }
  }
  return bars;
}

/**
 * How many slots are drawn: those in use between the two times and some empty ones, so that idle
 * slots are seen, but no hundreds of them.
 */
export function slotsDrawn(state, bars) {
  const used = bars.reduce((most, bar) => Math.max(most, bar.slot + 1), 0);
  const some = Math.ceil((used + 1) / 4) * 4;
  return Math.max(1, Math.min(state.queue.slots || LEAST_SLOTS, Math.max(some, LEAST_SLOTS), MOST_SLOTS));
}

/** The times at which somebody began or ceased to wait, and how long each of the shown waited. */
export function waitOf(row, at) {
  const until = row.scheduled_at ?? row.end ?? at;
  return { begin: row.arrival, end: until, seconds: Math.max(0, until - row.arrival) };
}

/** Points of a lane between two times, with the one before that still holds at the first. */
export function pointsBetween(lane, from, until) {
  const first = lane.findLastIndex((point) => point.at <= from);
  const points = lane.slice(Math.max(0, first)).filter((point) => point.at <= until);
  return points;
}
