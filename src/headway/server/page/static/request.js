/**
 * The request that a conversation amounts to, as the server takes it.
 *
 * What is sent is also what is shown as code, so there is one place that makes it. What the reader
 * left empty is not in it.
 *
 * @typedef {{path: string, body: Record<string, any>}} ApiRequest `path` is relative to the page
 */

export const CHAT_PATH = "v1/chat/completions";
export const COMPLETION_PATH = "v1/completions";

/** The counts come with every chunk, so that they are known of an answer that was stopped, too. */
const STREAMED = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };

/**
 * The whole conversation as a chat completion, or its last text as a completion.
 *
 * @param {import("./conversations.js").Conversation} conversation that ends where an answer is due
 * @param {{system: string, fields: Record<string, any>}} parameters
 * @param {string | null} model a name that the server knows; null leaves it out
 * @returns {ApiRequest}
 */
export function requestOf(conversation, parameters, model) {
  const named = model === null ? {} : { model };
  if (conversation.mode === "completion") {
    const { tools: _, ...fields } = parameters.fields;
    const prompt = conversation.messages.findLast((message) => message.role === "user")?.content ?? "";
    return { path: COMPLETION_PATH, body: { ...named, prompt, ...fields, ...STREAMED } };
  }
  const system = parameters.system ? [{ role: "system", content: parameters.system }] : [];
  const messages = [...system, ...answered(conversation.messages).flatMap(written)];
  return { path: CHAT_PATH, body: { ...named, messages, ...parameters.fields, ...STREAMED } };
}

/** Without the answers of which nothing came, and what they were to answer: models expect turns. */
function answered(messages) {
  const left = [];
  for (const message of messages) {
    const empty = message.role === "assistant" && !message.content && message.toolCalls.length === 0;
    if (!empty) left.push(message);
    else if (left.at(-1)?.role === "user") left.pop();
  }
  return left;
}

/** A message in the API's words; reasoning is not sent back. */
function written(message) {
  if (message.role === "tool") {
    return [{ role: "tool", tool_call_id: message.callId, content: message.content }];
  }
  if (message.role === "user") return [{ role: "user", content: message.content }];
  if (message.toolCalls.length === 0) return [{ role: "assistant", content: message.content }];
  const calls = message.toolCalls.map((each) => ({
    id: each.id,
    type: "function",
    function: { name: each.name, arguments: each.arguments },
  }));
  return [{ role: "assistant", content: message.content || null, tool_calls: calls }];
}

/**
 * The calls of the last answer that have no result yet: they come before anything else is said.
 *
 * @param {import("./conversations.js").Conversation} conversation
 * @returns {import("./conversations.js").ToolCall[]}
 */
export function openCalls(conversation) {
  const last = conversation.messages.findLastIndex((message) => message.role === "assistant");
  if (last < 0) return [];
  const after = conversation.messages.slice(last + 1);
  if (after.some((message) => message.role === "user")) return [];
  const done = new Set(after.map((message) => message.callId));
  return conversation.messages[last].toolCalls.filter((each) => !done.has(each.id));
}
