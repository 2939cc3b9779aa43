/**
 * Server-sent events from the body of a response, as the HTML standard has them.
 *
 * `EventSource` cannot send an API key, so streams are read with `fetch`, and parsed here.
 */

/** Characters of one line; a longer one is no event of this server. */
const LONGEST_LINE = 2 ** 24;

/**
 * A function that takes the stream's text in pieces, however they are cut, and returns the events
 * that have become complete.
 *
 * @returns {(piece: string) => {event: string, data: string}[]}
 */
export function eventParser() {
  let rest = "";
  let event = "message";
  let data = [];
  return (piece) => {
    let text = rest + piece;
    // A carriage return at the end may be half of a line's end.
    const held = text.endsWith("\r") ? "\r" : "";
    text = held ? text.slice(0, -1) : text;
    const lines = text.split(/\r\n|\n|\r/);
    rest = lines.pop() + held;
    if (rest.length > LONGEST_LINE) throw new Error("the stream has a line without an end");
    const complete = [];
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) complete.push({ event, data: data.join("\n") });
        event = "message";
        data = [];
        continue;
      }
      const [, field, value] = /^([^:]*)(?:: ?([^]*))?$/.exec(line);
      if (field === "data") data.push(value ?? "");
      else if (field === "event") event = value || "message";
    }
    return complete;
  };
}

/**
 * The events of a body, as they come. Whoever stops early ends the stream.
 *
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parse = eventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
