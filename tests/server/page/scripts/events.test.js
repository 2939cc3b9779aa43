import assert from "node:assert/strict";
import { test } from "node:test";

import { eventParser, readEvents } from "../static/events.js";

const STREAM = "data: a\n\n: a comment\nevent: news\ndata: b\r\ndata:c\r\n\r\nid: 7\r\rdata\n\ndata:  d\n\n";
const EVENTS = [
  { event: "message", data: "a" },
  { event: "news", data: "b\nc" },
  { event: "message", data: "" },
  { event: "message", data: " d" },
];

test("events are the same wherever the stream is cut", () => {
  for (let first = 0; first <= STREAM.length; first += 1) {
    for (let second = first; second <= STREAM.length; second += 7) {
      const parse = eventParser();
      const pieces = [STREAM.slice(0, first), STREAM.slice(first, second), STREAM.slice(second)];
      assert.deepEqual(pieces.flatMap(parse), EVENTS, `cut at ${first} and ${second}`);
    }
  }
});

test("an event that is not ended is none", () => {
  assert.deepEqual(eventParser()("data: a\n"), []);
});

test("a line without an end is refused", () => {
  const parse = eventParser();
  const piece = "x".repeat(2 ** 22);
  assert.throws(() => {
    for (let count = 0; count < 5; count += 1) parse(piece);
  }, /without an end/);
});

test("letters that are cut in two come whole, and a reader that leaves ends the stream", async () => {
  const bytes = new TextEncoder().encode("data: ü\n\ndata: 2\n\n");
  let cancelled = false;
  const body = new ReadableStream({
    pull(controller) {
      controller.enqueue(bytes.slice(0, 7));
      controller.enqueue(bytes.slice(7));
    },
    cancel() {
      cancelled = true;
    },
  });
  for await (const event of readEvents(body)) {
    assert.equal(event.data, "ü");
    break;
  }
  assert.equal(cancelled, true);
});
