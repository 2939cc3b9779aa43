import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { emptyAnswer, rateOf, streamAnswer, takeChunk } from "../static/stream.js";

globalThis.document = { baseURI: "http://server/" };

const chunk = (delta, finish = null, usage = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }], usage })}\n\n`;
const usage = (count) => ({
  prompt_tokens: 9,
  completion_tokens: count,
  prompt_tokens_details: { cached_tokens: 4 },
});
const DONE = "data: [DONE]\n\n";

let answer;
let changes;
beforeEach(() => {
  answer = emptyAnswer();
  changes = 0;
});

/** Stream a server's events into `answer`; a second passes with each event. */
async function stream(events, { signal = new AbortController().signal, status = 200, headers = {} } = {}) {
  let time = 0;
  globalThis.fetch = async () => new Response(events.join(""), { status, headers });
  const options = { signal, onChange: () => (changes += 1), now: () => (time += 1000) };
  await streamAnswer({ path: "v1/chat/completions", body: {} }, answer, options);
}

test("text, reasoning, counts and the end", async () => {
  await stream([
    chunk({ role: "assistant", content: "" }, null, usage(0)),
    chunk({ reasoning: "hm", reasoning_content: "hm" }, null, usage(1)),
    chunk({ content: "Hel" }, null, usage(2)),
    chunk({ content: "lo" }, null, usage(3)),
    chunk({}, "stop", usage(3)),
    `data: ${JSON.stringify({ choices: [], usage: usage(3) })}\n\n`,
    DONE,
  ]);
  assert.deepEqual([answer.content, answer.reasoning], ["Hello", "hm"]);
  assert.deepEqual(answer.figures, {
    ...{ firstToken: 1, seconds: 3, promptTokens: 9, tokens: 3, cachedTokens: 4, finish: "stop" },
  });
  assert.equal(rateOf(answer.figures), 1);
  assert.equal(answer.failure, null);
  assert.ok(changes >= 6);
});

test("calls of tools come in parts, and beside each other", async () => {
  const part = (index, id, name, text) =>
    chunk({ tool_calls: [{ index, id, function: { name, arguments: text } }] });
  await stream([
    part(0, "a", "f", ""),
    part(0, undefined, undefined, '{"x"'),
    part(1, "b", "g", "{}"),
    part(0, undefined, undefined, ": 1}"),
    chunk({}, "tool_calls"),
    DONE,
  ]);
  assert.deepEqual(answer.toolCalls, [
    { id: "a", name: "f", arguments: '{"x": 1}' },
    { id: "b", name: "g", arguments: "{}" },
  ]);
  assert.equal(answer.figures.finish, "tool_calls");
});

test("a completion's text", () => {
  answer.figures = {};
  assert.equal(takeChunk(answer, { choices: [{ text: "abc", finish_reason: null }] }), true);
  assert.equal(takeChunk(answer, { choices: [{ text: "", finish_reason: "length" }] }), false);
  assert.deepEqual([answer.content, answer.figures.finish], ["abc", "length"]);
});

test("an answer with one token has no speed", () => {
  assert.equal(rateOf({ firstToken: 1, seconds: 1, tokens: 1 }), null);
  assert.equal(rateOf({ firstToken: null, seconds: 0, tokens: null }), null);
});

test("a refusal has the server's words, the field and the request's id", async () => {
  const error = { message: "temperature: must be at most 100", param: "temperature", code: "x" };
  await stream([JSON.stringify({ error })], { status: 400, headers: { "x-request-id": "r1" } });
  assert.deepEqual(answer.failure, {
    ...{ message: error.message, field: "temperature", code: "x", status: 400, requestId: "r1" },
  });
});

test("an error in the middle keeps what has come", async () => {
  const error = { message: "the engine has failed", param: null, code: "internal_error" };
  await stream([chunk({ content: "He" }), `data: ${JSON.stringify({ error })}\n\n`, DONE]);
  assert.equal(answer.content, "He");
  assert.equal(answer.failure.message, "the engine has failed");
});

test("a stream that ends without an end is an error", async () => {
  await stream([chunk({ content: "He" })]);
  assert.match(answer.failure.message, /broke off/);
});

test("a server that answers with something else is an error", async () => {
  await stream(["<html>"], { status: 502 });
  assert.match(answer.failure.message, /status 502/);
  await stream(["data: <html>\n\n"]);
  assert.notEqual(answer.failure, null);
});

test("an answer that is stopped is none that failed", async () => {
  const controller = new AbortController();
  globalThis.fetch = async (_address, { signal }) => {
    const body = new ReadableStream({
      start(source) {
        source.enqueue(new TextEncoder().encode(chunk({ content: "He" }, null, usage(1))));
        signal.addEventListener("abort", () => source.error(signal.reason));
      },
    });
    return new Response(body);
  };
  const options = { signal: controller.signal, onChange: () => answer.content && controller.abort() };
  await streamAnswer({ path: "v1/chat/completions", body: {} }, answer, options);
  assert.deepEqual([answer.content, answer.figures.finish, answer.failure], ["He", "stopped", null]);
  assert.equal(answer.figures.tokens, 1);
});
