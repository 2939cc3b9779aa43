import assert from "node:assert/strict";
import { test } from "node:test";

import { openCalls, requestOf } from "../static/request.js";
import { emptyAnswer } from "../static/stream.js";

const NONE = { system: "", fields: {} };
const STREAMED = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
const user = (content) => ({ role: "user", content });
const model = (content, toolCalls = []) => ({ ...emptyAnswer(), content, toolCalls });
const chat = (...messages) => ({ mode: "chat", messages });
const CALLS = [
  { id: "a", name: "f", arguments: "{}" },
  { id: "b", name: "g", arguments: '{"x": 1}' },
];

test("what is empty is not sent", () => {
  const request = requestOf(chat(user("Hi")), NONE, null);
  assert.equal(request.path, "v1/chat/completions");
  assert.deepEqual(request.body, { messages: [user("Hi")], ...STREAMED });
});

test("a conversation with everything", () => {
  const parameters = { system: "Be brief.", fields: { temperature: 0, tools: [1] } };
  const { body } = requestOf(chat(user("a"), model("b"), user("c")), parameters, "m");
  assert.deepEqual(body, {
    model: "m",
    messages: [
      { role: "system", content: "Be brief." },
      user("a"),
      { role: "assistant", content: "b" },
      user("c"),
    ],
    temperature: 0,
    tools: [1],
    ...STREAMED,
  });
});

test("an answer of which nothing came is left out with its question", () => {
  const failed = { ...model(""), failure: { message: "no" } };
  const { body } = requestOf(chat(user("a"), failed, user("b")), NONE, null);
  assert.deepEqual(body.messages, [user("b")]);
});

test("calls and their results are sent back, reasoning is not", () => {
  const answer = { ...model("", CALLS), reasoning: "hm" };
  const results = [
    { role: "tool", content: "1", callId: "a", name: "f" },
    { role: "tool", content: "2", callId: "b", name: "g" },
  ];
  const { body } = requestOf(chat(user("a"), answer, ...results), NONE, null);
  assert.deepEqual(body.messages.slice(1), [
    {
      role: "assistant",
      content: null,
      tool_calls: CALLS.map((each) => ({
        id: each.id,
        type: "function",
        function: { name: each.name, arguments: each.arguments },
      })),
    },
    { role: "tool", tool_call_id: "a", content: "1" },
    { role: "tool", tool_call_id: "b", content: "2" },
  ]);
});

test("a completion is of the last text alone, and has no tools", () => {
  const conversation = { mode: "completion", messages: [user("a"), model("b"), user("c")] };
  const request = requestOf(conversation, { system: "s", fields: { tools: [1], seed: 3 } }, "m");
  assert.deepEqual(request, {
    path: "v1/completions",
    body: { model: "m", prompt: "c", seed: 3, ...STREAMED },
  });
});

test("calls are open until they have a result, or something else is said", () => {
  const result = { role: "tool", content: "1", callId: "a", name: "f" };
  assert.deepEqual(openCalls(chat(user("x"))), []);
  assert.deepEqual(openCalls(chat(user("x"), model("", CALLS))), CALLS);
  assert.deepEqual(openCalls(chat(user("x"), model("", CALLS), result)), [CALLS[1]]);
  assert.deepEqual(openCalls(chat(user("x"), model("", CALLS), user("y"))), []);
});
