import assert from "node:assert/strict";
import { test } from "node:test";

import { curl, literal, python } from "../static/snippet.js";

const REQUEST = { path: "v1/chat/completions", body: { model: "m", messages: [], slo: { tpot_ms: 30 } } };
const OPEN = { base: "http://127.0.0.1:8000/", key: false };
const LOCKED = { ...OPEN, key: true };

test("a key is never written out", () => {
  for (const write of [curl, python]) {
    assert.match(write(REQUEST, LOCKED), /HEADWAY_API_KEY/);
    assert.doesNotMatch(write(REQUEST, OPEN), /HEADWAY_API_KEY/);
  }
});

test("what the client has no name for goes into its extra body", () => {
  const text = python(REQUEST, OPEN);
  assert.match(text, /extra_body=\{\n {8}"slo": \{\n {12}"tpot_ms": 30,/);
  assert.doesNotMatch(text, /^ {4}slo=/m);
});

test("values as Python writes them", () => {
  assert.equal(literal([true, false, null, 1.5, "a'\"\n"], 0), '[\n    True,\n    False,\n    None,\n    1.5,\n    "a\'\\"\\n",\n]');
  assert.equal(literal({}, 0), "{}");
  assert.equal(literal([], 3), "[]");
});
