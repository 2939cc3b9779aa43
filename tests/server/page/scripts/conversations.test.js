import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversations, MOST_CHARACTERS, MOST_CONVERSATIONS } from "../static/conversations.js";

class Storage {
  values = new Map();
  full = false;
  getItem(name) {
    return this.values.get(name) ?? null;
  }
  setItem(name, value) {
    if (this.full) throw new Error("QuotaExceededError");
    this.values.set(name, value);
  }
}

function said(store, text, now) {
  const conversation = store.begin("chat");
  conversation.messages.push({ role: "user", content: text });
  store.keep(conversation, now);
  return conversation;
}

test("conversations are there again, the one changed last first", () => {
  const storage = new Storage();
  const store = new Conversations(storage);
  const first = said(store, "one", 1);
  said(store, "two", 2);
  assert.deepEqual(new Conversations(storage).all.map((each) => each.title), ["two", "one"]);
  store.keep(first, 3);
  const again = new Conversations(storage);
  assert.deepEqual(again.all.map((each) => each.title), ["one", "two"]);
  assert.deepEqual(again.find(first.id).messages, first.messages);
});

test("one in which nothing was said is not kept", () => {
  const store = new Conversations(new Storage());
  store.begin("chat");
  assert.deepEqual(store.all, []);
});

test("a title is short, of one line, and stays", () => {
  const store = new Conversations(new Storage());
  const long = said(store, `  a\nb ${"😀".repeat(100)}`);
  assert.equal([...long.title].length, 60);
  assert.match(long.title, /^a b 😀+…$/u);
  long.messages[0].content = "other";
  store.keep(long);
  assert.match(long.title, /^a b/);
  assert.equal(said(store, "   ").title, "Untitled");
});

test("the ones changed longest ago go first where there are too many", () => {
  const store = new Conversations(new Storage());
  for (let count = 0; count < MOST_CONVERSATIONS + 3; count += 1) said(store, `number ${count}`);
  assert.equal(store.all.length, MOST_CONVERSATIONS);
  assert.equal(store.all.at(-1).title, "number 3");
});

test("the ones changed longest ago go first where they are too large; the newest stays", () => {
  const storage = new Storage();
  const store = new Conversations(storage);
  for (const name of ["a", "b", "c"]) said(store, name.repeat(MOST_CHARACTERS * 0.4));
  assert.deepEqual(store.all.map((each) => each.title[0]), ["c", "b"]);
  said(store, "d".repeat(MOST_CHARACTERS * 1.1));
  assert.deepEqual(store.all.map((each) => each.title[0]), ["d"]);
});

test("a browser that keeps nothing is told of, and loses nothing of this page", () => {
  const storage = new Storage();
  storage.full = true;
  const store = new Conversations(storage);
  said(store, "one");
  assert.match(store.problem, /keeps no more/);
  assert.equal(store.all.length, 1);
  storage.full = false;
  said(store, "two");
  assert.equal(store.problem, "");
});

test("a browser without storage is told of, too", () => {
  const store = new Conversations(null);
  said(store, "one");
  assert.match(store.problem, /keeps no more/);
  assert.equal(store.all.length, 1);
});

test("what cannot be read is no conversation", () => {
  for (const text of ["{", "null", "3", '[{"id": 1}]', '[{"id": "a"}]', "[null]"]) {
    const storage = new Storage();
    storage.setItem("headway.conversations", text);
    assert.deepEqual(new Conversations(storage).all, [], text);
  }
});

test("deleting one, and all", () => {
  const storage = new Storage();
  const store = new Conversations(storage);
  const [one, two] = [said(store, "one"), said(store, "two")];
  store.remove(one.id);
  assert.deepEqual(new Conversations(storage).all.map((each) => each.id), [two.id]);
  store.clear();
  assert.deepEqual(new Conversations(storage).all, []);
});

test("another tab's are taken over, and the current one stays the same object", () => {
  const storage = new Storage();
  const here = new Conversations(storage);
  const current = said(here, "here");
  const there = new Conversations(storage);
  said(there, "there");
  here.reload(current);
  assert.deepEqual(here.all.map((each) => each.title), ["there", "here"]);
  assert.equal(here.find(current.id), current);
});

test("the file has everything", () => {
  const store = new Conversations(new Storage());
  said(store, "one");
  assert.deepEqual(JSON.parse(store.exported()).conversations, JSON.parse(JSON.stringify(store.all)));
});
