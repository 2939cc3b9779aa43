import assert from "node:assert/strict";
import { test } from "node:test";

import { FIELDS, readFields } from "../static/parameters.js";

test("empty fields are not sent", () => {
  assert.deepEqual(readFields({}), { fields: {}, problems: {} });
  const blank = Object.fromEntries(FIELDS.map(({ name }) => [name, "  "]));
  assert.deepEqual(readFields(blank), { fields: {}, problems: {} });
});

test("every field becomes what the server takes", () => {
  const { fields, problems } = readFields({
    temperature: "0",
    top_p: "0.5",
    max_tokens: "12",
    seed: "-3",
    stop: "END\n\\n\\n\na\\\\n",
    "slo.ttft_ms": "500",
    "slo.tpot_ms": "30",
    response_format: '{"type": "object"}',
    tools: '[{"name": "f"}, {"type": "function", "function": {"name": "g"}}]',
  });
  assert.deepEqual(problems, {});
  assert.deepEqual(fields, {
    temperature: 0,
    top_p: 0.5,
    max_tokens: 12,
    seed: -3,
    stop: ["END", "\n\n", "a\\n"],
    slo: { ttft_ms: 500, tpot_ms: 30 },
    response_format: { type: "json_schema", json_schema: { name: "answer", schema: { type: "object" } } },
    tools: [
      { type: "function", function: { name: "f" } },
      { type: "function", function: { name: "g" } },
    ],
  });
  assert.deepEqual(readFields({ stop: "one" }).fields, { stop: "one" });
});

test("a slip is told at its field, and the others are read", () => {
  const wrong = {
    temperature: ["-1", "101", "x", "NaN", "Infinity"],
    top_p: ["1.1"],
    max_tokens: ["0", "1.5", "1e99"],
    seed: ["9007199254740993"],
    "slo.tpot_ms": ["0"],
    response_format: ["{", "[]", "null", "3"],
    tools: ["{}", "["],
  };
  for (const [name, texts] of Object.entries(wrong)) {
    for (const text of texts) {
      const { fields, problems } = readFields({ [name]: text, stop: "x" });
      assert.deepEqual([Object.keys(problems), fields], [[name], { stop: "x" }], `${name} ${text}`);
    }
  }
});
