import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, laidOut, summary } from "../static/answers.js";
import { emptyAnswer } from "../static/stream.js";

test("JSON is laid out where nothing but spaces changes", () => {
  assert.equal(laidOut('{"a":[1,"b c"]}'), '{\n  "a": [\n    1,\n    "b c"\n  ]\n}');
  for (const text of ["12345678901234567890", '{"a":1.0}', '{"a":1,"a":2}', '"\\u00e9"']) {
    assert.equal(laidOut(text), text);
  }
  for (const text of ["{", "words", ""]) assert.equal(laidOut(text), null);
});

test("durations for people", () => {
  assert.deepEqual([0.0123, 0.9994, 1, 12.34, 345.6].map(duration), ["12 ms", "999 ms", "1 s", "12.3 s", "346 s"]);
});

test("what a screen reader says of an answer", () => {
  const answer = { ...emptyAnswer(), figures: { tokens: 1 } };
  assert.equal(summary(answer), "The answer is complete, 1 token.");
  assert.equal(summary({ ...answer, failure: { message: "no room" } }), "The request failed: no room");
});
