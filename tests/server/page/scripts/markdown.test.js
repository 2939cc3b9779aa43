import assert from "node:assert/strict";
import { test } from "node:test";

import { blocksOf, inlineOf } from "../static/markdown.js";

const kinds = (text) => blocksOf(text).map((block) => block.kind);
const written = (parts) => parts.map(({ text }) => text).join("");

test("the kinds of blocks", () => {
  const text = "# Title\nSome words\nin two lines\n\n> quoted\n\n- one\n- two\n\n1. first\n\n---\n```py\nx = 1\n```";
  assert.deepEqual(kinds(text), ["heading", "paragraph", "quote", "list", "list", "rule", "code"]);
});

test("code is kept as it is, also where its end has not come", () => {
  for (const end of ["\n```", "\n````", ""]) {
    const [block] = blocksOf(`\`\`\`js\n# no heading\n  - no *item*\n${end}`);
    assert.deepEqual([block.kind, block.language], ["code", "js"]);
    assert.equal(block.text.trimEnd(), "# no heading\n  - no *item*");
  }
  assert.equal(blocksOf("~~~\n```\n~~~")[0].text, "```");
  assert.equal(blocksOf("- item\n\n   ```\n   a\n     b\n   ```")[1].text, "a\n  b");
});

test("items go on with their list over empty lines and through deeper ones", () => {
  const [list, ...others] = blocksOf("3. a\n   - b\n     more\n\n4. c");
  assert.equal(others.length, 0);
  assert.equal(list.start, 3);
  assert.deepEqual(
    list.items.map(({ depth, ordered, parts }) => [depth, ordered, written(parts)]),
    [
      [0, true, "a"],
      [1, false, "b\nmore"],
      [0, true, "c"],
    ],
  );
  assert.deepEqual(kinds("- a\n\nwords\n\n- b"), ["list", "paragraph", "list"]);
  assert.deepEqual(kinds("- a\n1. b"), ["list", "list"]);
});

test("parts of a line", () => {
  assert.deepEqual(inlineOf("a **b** `c*d*` *e*"), [
    { kind: "text", text: "a " },
    { kind: "strong", text: "b" },
    { kind: "text", text: " " },
    { kind: "code", text: "c*d*" },
    { kind: "text", text: " " },
    { kind: "em", text: "e" },
  ]);
  for (const plain of ["2 * 3 * 4", "snake_case_name", "**open", "` `` ", "<b onclick=x>", "[a](b)"]) {
    assert.deepEqual(inlineOf(plain), [{ kind: "text", text: plain }], plain);
  }
});

test("nothing that was said is lost, whatever it is", () => {
  const letters = ["a", " ", "\n", "*", "**", "`", "```", "- ", "1. ", "#", "> ", "_", "  ", "é"];
  let seed = 7;
  const draw = (count) => (seed = (seed * 48271) % 2147483647) % count;
  for (let round = 0; round < 3000; round += 1) {
    const text = Array.from({ length: draw(14) }, () => letters[draw(letters.length)]).join("");
    const shown = blocksOf(text).map((block) =>
      block.kind === "list" ? block.items.map((item) => written(item.parts)) : (block.text ?? written(block.parts ?? [])),
    );
    const count = (where) => (where.match(/[aé]/g) ?? []).length;
    // What stands after a fence is shown above the code.
    const languages = blocksOf(text).map((block) => block.language ?? "");
    assert.equal(count(shown.flat().join(" ") + languages.join(" ")), count(text), JSON.stringify(text));
  }
});

test("a long answer takes no time that grows with its square", () => {
  for (const unit of ["*", "`", "_a", "**a", "- ", "a\n", "> ", "1. a\n"]) {
    const long = blocksOf(unit.repeat(200_000));
    assert.ok(long.length > 0);
  }
});
