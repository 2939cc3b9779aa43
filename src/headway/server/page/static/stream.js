/**
 * An answer as it streams in: text, reasoning, calls of tools, counts, and how it ended.
 */

import { ApiError, call, errorFrom } from "./api.js";
import { readEvents } from "./events.js";

/** @returns {import("./conversations.js").Answer} */
export function emptyAnswer() {
  return {
    role: "assistant",
    content: "",
    reasoning: "",
    toolCalls: [],
    figures: null,
    failure: null,
  };
}

/**
 * Send a request and write what comes into `answer`, until the end, an error, or the signal. Nothing
 * is thrown: an error is the answer's `failure`, and an answer that was stopped has the finish
 * "stopped".
 *
 * @param {import("./request.js").ApiRequest} request
 * @param {import("./conversations.js").Answer} answer
 * @param {{signal: AbortSignal, onChange: () => void, now?: () => number}} options `now`:
 *   milliseconds
 */
export async function streamAnswer(request, answer, { signal, onChange, now = () => performance.now() }) {
  const began = now();
  const figures = {
    firstToken: null,
    seconds: 0,
    promptTokens: null,
    tokens: null,
    cachedTokens: null,
    finish: null,
  };
  answer.figures = figures;
  try {
    const response = await call(request.path, { method: "POST", body: request.body, signal });
    const about = { status: response.status, requestId: response.headers.get("x-request-id") };
    for await (const { data } of readEvents(response.body)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw errorFrom(chunk, about);
      if (takeChunk(answer, chunk)) {
        figures.seconds = (now() - began) / 1000;
        figures.firstToken ??= figures.seconds;
      }
      onChange();
    }
    if (figures.finish === null) throw new ApiError("the answer broke off", about);
  } catch (error) {
    if (signal.aborted) figures.finish = "stopped";
    else answer.failure = failureOf(error);
  }
  answer.toolCalls = answer.toolCalls.filter(Boolean);
  onChange();
}

/**
 * Take one chunk of a stream into an answer; whether the model said something in it.
 *
 * @param {import("./conversations.js").Answer} answer with figures
 * @param {any} chunk of a chat completion or of a completion
 */
export function takeChunk(answer, chunk) {
  const { figures } = answer;
  if (chunk.usage) {
    figures.promptTokens = chunk.usage.prompt_tokens;
    figures.tokens = chunk.usage.completion_tokens;
    figures.cachedTokens = chunk.usage.prompt_tokens_details?.cached_tokens ?? null;
  }
  const choice = chunk.choices?.[0];
  if (!choice) return false;
  if (choice.finish_reason) figures.finish = choice.finish_reason;
  const delta = choice.delta ?? { content: choice.text };
  const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
  answer.content += delta.content ?? "";
  answer.reasoning += reasoning;
  for (const part of delta.tool_calls ?? []) takeCall(answer.toolCalls, part);
  return Boolean(delta.content || reasoning || delta.tool_calls?.length);
}

/** A call comes in parts, of which the first one names it. */
function takeCall(calls, part) {
  calls[part.index] ??= { id: "", name: "", arguments: "" };
  const known = calls[part.index];
  known.id = part.id ?? known.id;
  known.name += part.function?.name ?? "";
  known.arguments += part.function?.arguments ?? "";
}

/** @returns {import("./conversations.js").Failure} */
function failureOf(error) {
  return {
    message: error.message,
    field: error.field ?? null,
    code: error.code ?? null,
    status: error.status ?? 0,
    requestId: error.requestId ?? null,
  };
}

/**
 * Tokens a second after the first one; null where there are too few to say.
 *
 * @param {import("./conversations.js").Figures} figures
 */
export function rateOf(figures) {
  const seconds = figures.seconds - (figures.firstToken ?? figures.seconds);
  return figures.tokens > 1 && seconds > 0 ? (figures.tokens - 1) / seconds : null;
}
