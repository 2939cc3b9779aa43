/**
 * From the state to what is drawn: bars in seconds and slots. Pure, like the state.
 */

import { replicasOf } from "./live-state.js";

/** Slots that are drawn at most, of all engines, and of each of them at least. */
const MOST_SLOTS = 96;
const LEAST_OF_EACH = 4;
const LEAST_SLOTS = 8;

/**
 * @typedef {{key: number, slot: number, replica: number, begin: number, first: number, end: number, cached: number,
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
        replica: span.replica,
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
 * The groups of slots that are drawn, one below the other: one without a name, or one for each of
 * several engines.
 *
 * @returns {{name: string, replica: number | null, bars: Bar[], slots: number, hidden: number}[]}
 *   `hidden` are slots that there are besides
 */
export function groupsDrawn(state, bars) {
  const replicas = replicasOf(state);
  if (replicas.length === 0) return [group("", null, bars, state.queue.slots, MOST_SLOTS)];
  const most = Math.max(LEAST_OF_EACH, Math.floor(MOST_SLOTS / replicas.length));
  return replicas.map((replica) => {
    const role = ["prefill", "decode"].includes(replica.role) ? ` (${replica.role})` : "";
    const state = replica.state === "ready" ? "" : `: ${replica.state}`;
    const name = `replica ${replica.id}${role}${state}`;
    const own = bars.filter((bar) => bar.replica === replica.id);
    return group(name, replica.id, own, replica.slots, most);
  });
}

/**
 * Slots in use between the two times are drawn, and some empty ones, so that idle slots are seen,
 * but no hundreds of them.
 */
function group(name, replica, bars, slots, most) {
  const used = bars.reduce((highest, bar) => Math.max(highest, bar.slot + 1), 0);
  const some = Math.ceil((used + 1) / 4) * 4;
  const drawn = Math.max(1, Math.min(slots || LEAST_SLOTS, Math.max(some, Math.min(LEAST_SLOTS, most)), most));
  const seen = bars.filter((bar) => bar.slot < drawn);
  return { name, replica, bars: seen, slots: drawn, hidden: Math.max(0, slots - drawn) };
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
