// The page's sentences for states (a JSON list of {rows, queue, figures, at} on standard input).
import { readFileSync } from "node:fs";
import { applySnapshot, emptyState } from "./live-state.js";
import * as words from "./live-words.js";

const told = JSON.parse(readFileSync(0, "utf8")).map(({ snapshot, price, report, asked }) => {
  const state = emptyState();
  applySnapshot(state, snapshot);
  return {
    why: Object.fromEntries([...state.rows.values()].map((row) => [row.name ?? `#${row.key}`, words.whyOf(row, state)])),
    queue: words.queueWords(state),
    idle: words.idleWords(state),
    binds: words.bindsWords(state.figures?.choice, state.figures),
    change: words.changeWords(state),
    replicas: words.replicaWords(state),
    cost: words.costWords(price ?? 0, state.figures),
    whatIf: report ? words.whatIfWords(report, asked, state.figures) : null,
    summary: words.summaryWords(state),
  };
});
process.stdout.write(JSON.stringify(told));
