/**
 * What an empty conversation offers to begin with: one request of each kind.
 */

import { element } from "./dom.js";

const CITY = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 40 },
    country: { type: "string", maxLength: 40 },
    inhabitants: { type: "integer", minimum: 0 },
  },
  required: ["name", "country", "inhabitants"],
  additionalProperties: false,
};
const WEATHER = {
  name: "weather",
  description: "The weather in a city.",
  parameters: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer" } },
    required: ["city"],
  },
};

/** @typedef {{label: string, text: string, fields: Record<string, string>}} Example */

/** @type {Record<"chat" | "completion", Example[]>} `fields`: texts of parameters, by their names */
const EXAMPLES = {
  chat: [
    { label: "Ask", text: "Why is the sky blue?", fields: {} },
    {
      label: "Ask for JSON of a schema",
      text: "Tell me about Paris.",
      fields: { response_format: JSON.stringify(CITY, null, 2) },
    },
    {
      label: "Offer a tool",
      text: "Will it rain in Ulm tomorrow?",
      fields: { tools: JSON.stringify([WEATHER], null, 2) },
    },
  ],
  completion: [{ label: "Go on with a text", text: "Once upon a time", fields: { max_tokens: "60" } }],
};

/**
 * The examples of a mode, as buttons.
 *
 * @param {"chat" | "completion"} mode
 * @param {(example: Example) => void} use
 */
export function exampleButtons(mode, use) {
  const buttons = EXAMPLES[mode].map((example) =>
    element(
      "button",
      { type: "button", class: "example", onclick: () => use(example) },
      element("span", { class: "muted" }, example.label),
      element("span", {}, example.text),
    ),
  );
  return element("li", { class: "nothing" }, element("div", { class: "examples" }, ...buttons));
}
