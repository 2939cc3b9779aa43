/**
 * What is beside the chart: figures, sentences, the price of a token, and the form that asks what
 * other objectives would do, or makes them everyone's.
 */

import { call } from "./api.js";
import { element } from "./dom.js";
import { phaseOf, recentSteps } from "./live-state.js";
import { bindsWords, changeWords, costWords, idleWords, percent, queueWords, replicaWords, shortName, three, times, whatIfWords, whyOf } from "./live-words.js";

const PRICE = "headway.price";

/** Text is written only where it changed: readers are told of each change. */
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The figures above the chart. */
export function figures() {
  const values = {};
  const named = (name, text, title) => {
    values[name] = element("span", { class: "value" }, "–");
    return element("div", { class: "figure", title }, element("span", { class: "label" }, text), values[name]);
  };
  const node = element(
    "div",
    { class: "figures live-figures", role: "group", "aria-label": "Figures" },
    named("slots", "Slots", "Taken, of all"),
    named("rate", "Tokens/s", "Generated, over the last second"),
    named("step", "Step / predicted", "Median time of the last steps, and the prediction"),
    named("width", "Width", "Answers at once that the objectives, memory and limits allow"),
    named("budget", "Token budget", "The most new tokens of a step"),
    named("limit", "Of limit", "Time that the machine's peak rates allow for these steps, over what they took"),
    named("hits", "Prefix hits", "Of the prompt tokens of the last second, those found in the cache"),
    named("cache", "Answers kept", "Of the answers of the last second, those that the response cache had"),
    named("drafts", "Drafts kept", "Of the tokens guessed ahead, those that were right"),
    named("held", "On time", "Of the last requests with objectives, those that met all of them"),
  );
  values.cache.parentElement.hidden = true; // until there is a cache that was asked
  function update(state) {
    const now = state.figures;
    set(values.slots, state.queue.slots ? `${state.queue.running} / ${state.queue.slots}` : "–");
    if (!now) return;
    const step = recentSteps(state, 2);
    set(values.rate, three(now.generated_per_second));
    set(values.step, step ? times(step.median, now.predicted_seconds) : "–");
    set(values.width, now.choice ? three(now.choice.width) : "–");
    set(values.budget, now.choice ? three(now.choice.token_budget) : "–");
    set(values.limit, now.percent_of_limit === null ? "–" : `${Math.round(now.percent_of_limit)} %`);
    set(values.hits, now.prefix_hit_share === null ? "–" : percent(now.prefix_hit_share));
    if (now.cache_hit_share !== null) {
      values.cache.parentElement.hidden = false;
      set(values.cache, percent(now.cache_hit_share));
    }
    set(values.drafts, now.accepted_share === null ? "–" : percent(now.accepted_share));
    const held = Object.values(now.attainment);
    set(values.held, held.length ? percent(Math.min(...held)) : "–");
  }
  return { node, update };
}

/** The sentences that answer questions, and the request that is followed. */
export function sentences() {
  const made = Object.fromEntries(
    ["why", "idle", "replicas", "binds", "cost"].map((name) => [name, element("dd", { class: `live-${name}` })]),
  );
  const price = numberInput("live-price", { value: keptPrice() });
  price.addEventListener("input", () => keepPrice(price.value));
  const question = element("dt", {}, "Why does it wait?");
  const serving = element("div", { hidden: true }, element("dt", {}, "Which replicas serve?"), made.replicas);
  const node = element(
    "dl",
    { class: "live-answers panel" },
    element("div", {}, question, made.why),
    element("div", {}, element("dt", {}, "Which slots idle?"), made.idle),
    serving,
    element("div", {}, element("dt", {}, "What binds?"), made.binds),
    element(
      "div",
      {},
      element("dt", {}, "What does a token cost?"),
      element("dd", { class: "field live-price" }, element("label", { for: "live-price" }, "The machine costs, an hour"), price),
      made.cost,
    ),
  );
  function update(state, row) {
    set(question, row === null ? "Why do requests wait?" : `${heading(row)} ${shortName(row)}`);
    set(made.why, row === null ? queueWords(state) : whyOf(row, state));
    set(made.idle, idleWords(state));
    set(made.replicas, replicaWords(state));
    serving.hidden = made.replicas.textContent === "";
    set(made.binds, `${bindsWords(state.figures?.choice, state.figures)} ${changeWords(state)}`.trim());
    set(made.cost, costWords(Number(price.value), state.figures));
  }
  return { node, update, onPrice: (listener) => price.addEventListener("input", listener) };
}

function heading(row) {
  return { waiting: "Why waits", prefill: "What does", decode: "What does", ended: "What became of" }[phaseOf(row)];
}

function keptPrice() {
  try {
    return localStorage.getItem(PRICE) ?? "";
  } catch {
    return ""; // Storage may be blocked; the price then lasts as long as the page.
  }
}

function keepPrice(value) {
  try {
    localStorage.setItem(PRICE, value);
  } catch {
    // As above.
  }
}

/** The form of the question what other objectives would do. @param {() => any} currentFigures */
export function whatIf(currentFigures) {
  const tpot = numberInput("live-tpot", { placeholder: "30" });
  const ttft = numberInput("live-ttft", { placeholder: "1000" });
  const answer = element("p", { class: "live-answer", role: "status" });
  const present = element("p", { class: "muted live-objectives" });
  const asked = () =>
    [["ttft", ttft], ["tpot", tpot]]
      .filter(([, input]) => Number(input.value) > 0)
      .map(([name, input]) => `${name}=${Number(input.value)}ms`)
      .join(",");
  const ask = async (event) => {
    event.preventDefault();
    const objectives = asked();
    if (!objectives) return set(answer, "Give a time for the first token, for each token after it, or both.");
    await answering(answer, async () => {
      const report = await (await call(`slo?objectives=${encodeURIComponent(objectives)}`)).json();
      return whatIfWords(report, objectives, currentFigures());
    });
  };
  const make = () =>
    answering(answer, async () => {
      const objectives = asked();
      await call("slo", { method: "POST", body: { objectives } });
      return objectives
        ? `From now on, requests that bring no objectives are held to ${objectives}.`
        : "From now on, requests that bring no objectives are held to none.";
    });
  const node = element(
    "form",
    { class: "live-what-if panel", onsubmit: ask },
    element("h2", {}, "What if I ask for …"),
    element("div", { class: "field" }, element("label", { for: "live-ttft" }, "First token ", hint("within ms")), ttft),
    element("div", { class: "field" }, element("label", { for: "live-tpot" }, "Each after it ", hint("ms")), tpot),
    element(
      "div",
      { class: "live-buttons" },
      element("button", { type: "submit", class: "button primary" }, "Ask"),
      element("button", { type: "button", class: "button", onclick: make }, "Make it the default"),
    ),
    answer,
    present,
  );
  function update(state) {
    const objectives = state.figures?.objectives?.standard ?? [];
    set(present, objectives.length ? `Requests that bring none are held to ${objectives.join(", ")}.` : "Requests that bring no objectives are held to none.");
  }
  return { node, update };
}

function numberInput(id, attributes) {
  return element("input", { type: "number", id, min: "0", step: "any", inputmode: "decimal", ...attributes });
}

function hint(text) {
  return element("span", { class: "muted" }, text);
}

async function answering(node, ask) {
  set(node, "…");
  try {
    set(node, await ask());
  } catch (error) {
    set(node, error.message);
  }
}
