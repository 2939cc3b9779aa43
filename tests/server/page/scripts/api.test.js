import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

globalThis.document = { baseURI: "http://server/below/" };
const kept = new Map();
globalThis.sessionStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, value) => kept.set(name, value),
  removeItem: (name) => kept.delete(name),
};
const { ApiError, call, currentKey, fetchEvents, onKeyNeeded, useKey } = await import("../static/api.js");

/** What was asked, and what is answered in turn; the last one again and again. */
let asked;
function answering(...answers) {
  asked = [];
  globalThis.fetch = async (address, options) => {
    asked.push({ address: String(address), ...options });
    const next = answers.length > 1 ? answers.shift() : answers[0];
    if (next instanceof Error) throw next;
    return next();
  };
}
const json = (body, status = 200, headers = {}) => () => Response.json(body, { status, headers });
const refused = json({ error: { message: "a key is needed", code: "invalid_api_key" } }, 401);

beforeEach(() => {
  useKey("");
  onKeyNeeded(async () => false);
});

test("paths are relative to the page, and a body is JSON", async () => {
  answering(json({}));
  await call("/v1/models", { method: "POST", body: { a: 1 } });
  assert.equal(asked[0].address, "http://server/below/v1/models");
  assert.equal(asked[0].body, '{"a":1}');
  assert.equal(asked[0].headers["content-type"], "application/json");
  assert.equal("authorization" in asked[0].headers, false);
});

test("a key is asked for once, kept for the tab, and sent as bytes of UTF-8", async () => {
  answering(refused, json({}));
  let times = 0;
  onKeyNeeded(async () => {
    times += 1;
    useKey(" schlüssel😀 ");
    return true;
  });
  await call("v1/models");
  assert.equal(times, 1);
  assert.equal(currentKey(), "schlüssel😀");
  assert.equal(kept.get("headway.key"), "schlüssel😀");
  const sent = asked[1].headers.authorization;
  assert.deepEqual(Buffer.from(sent, "latin1"), Buffer.from("Bearer schlüssel😀"));
  useKey("");
  assert.equal(kept.size, 0);
});

test("a wrong key, and a reader who gives none, end with the refusal", async () => {
  answering(refused);
  for (const given of [true, false]) {
    let times = 0;
    onKeyNeeded(async () => {
      times += 1;
      assert.equal(times, 1, "asked again and again");
      return given;
    });
    await assert.rejects(call("v1/models"), { status: 401, message: "a key is needed" });
  }
  onKeyNeeded(async () => assert.fail("must not ask"));
  await assert.rejects(call("v1/models", { ask: false }), { status: 401 });
});

test("errors say what the server said, or that there is none", async () => {
  const error = { message: "too many", param: "n", code: "queue_full" };
  answering(json({ error }, 429, { "retry-after": "3", "x-request-id": "r" }));
  await assert.rejects(call("x"), {
    ...{ name: "ApiError", status: 429, field: "n", code: "queue_full" },
    ...{ retryAfter: 3, requestId: "r", message: "too many" },
  });
  answering(new TypeError("fetch failed"));
  await assert.rejects(call("x"), { status: 0, message: "the server cannot be reached" });
  assert.ok(new ApiError("x") instanceof Error);
});

/** Events as text, and time that passes at once. */
const events = (text) => () => new Response(text);

async function followed(mock, count, ...answers) {
  mock.timers.enable({ apis: ["setTimeout"] });
  answering(...answers);
  const seen = [];
  const controller = new AbortController();
  const following = fetchEvents(
    "live",
    (event) => {
      seen.push([event.event, event.data]);
      if (seen.length === count) controller.abort();
    },
    controller.signal,
  );
  let done = false;
  const noted = following.then(
    () => (done = true),
    (error) => ((done = true), seen.push(["thrown", error.status])),
  );
  const waits = [];
  for (let second = 0; !done && second < 300; second += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    const before = asked.length;
    if (seen.at(-1)?.[0] === "lost") mock.timers.tick(1000);
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    if (asked.length > before) waits.push(second);
  }
  await noted;
  return { seen, waits };
}

test("a stream that breaks off is taken up again", async ({ mock }) => {
  const { seen } = await followed(mock, 6, events("data: 1\n\n"), events("event: x\ndata: 2\n\n"));
  assert.deepEqual(seen, [
    ["open", ""],
    ["message", "1"],
    ["lost", "the stream ended"],
    ["open", ""],
    ["x", "2"],
    ["lost", "the stream ended"],
  ]);
});

test("a server that cannot be reached is tried again, later each time", async ({ mock }) => {
  const { seen, waits } = await followed(mock, 5, new TypeError("no"), new TypeError("no"));
  assert.ok(seen.every(([event]) => event === "lost"));
  const pauses = waits.slice(1).map((at, index) => at - waits[index]);
  assert.deepEqual(pauses, [2, 4, 8].slice(0, pauses.length));
  assert.ok(pauses.length >= 2);
});

test("a refusal that would be the same again is thrown", async ({ mock }) => {
  const { seen } = await followed(mock, 9, json({ error: { message: "no such path" } }, 404));
  assert.deepEqual(seen, [["thrown", 404]]);
  assert.equal(asked.length, 1);
});
