// Rebuilds the state from events (a JSON list on standard input) and writes what it knows as JSON.
import { readFileSync } from "node:fs";
import { barsBetween, groupsDrawn } from "./live-bars.js";
import { applyFrame, applySnapshot, emptyState, FIELDS, phaseOf } from "./live-state.js";

const state = emptyState();
const seen = [];
for (const { event, data } of JSON.parse(readFileSync(0, "utf8"))) {
  if (event === "snapshot") applySnapshot(state, data);
  else if (!applyFrame(state, data)) seen.push("missing");
}
const bars = barsBetween(state, state.at - 1000, state.at);
const rows = [...state.rows.values()].map((row) => FIELDS.map((field) => row[field]));
process.stdout.write(
  JSON.stringify({
    seen,
    rows,
    queue: state.queue,
    past: state.past.map((row) => [row.key, row.end, row.reason, row.generated]),
    phases: Object.fromEntries([...state.rows.values()].map((row) => [row.key, phaseOf(row)])),
    bars,
    groups: groupsDrawn(state, bars).map((group) => ({ ...group, bars: group.bars.map((bar) => bar.key) })),
    queues: [...state.queues.values()],
    lanes: state.lanes,
  }),
);
