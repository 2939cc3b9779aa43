/**
 * What surrounds the two views: which of them is shown, the server's name and health, and the key.
 */

import { call, currentKey, fetchEvents, onKeyNeeded, useKey } from "./api.js";
import { byId } from "./dom.js";
import { mountLive } from "./live.js";
import { mountTry } from "./try.js";

/** Milliseconds between looks at the server's health, while the page is seen. */
const LOOK_EVERY = 5000;
const MOUNTS = { try: mountTry, live: mountLive };
const TITLES = { try: "Try", live: "Live" };
const FIRST = "try";

/** What the views are given. */
const server = {
  /** @type {{id: string, defaults: any, maxLength: number} | null} the model; null till it is known */
  model: null,
  /** @type {(() => void)[]} called when the model becomes known, and when there is another key */
  listeners: [],
};

const mounted = {};
let shownView = "";

function show() {
  const wanted = location.hash.slice(1);
  const name = wanted in MOUNTS ? wanted : FIRST;
  if (name === shownView) return;
  mounted[shownView]?.hide?.();
  shownView = name;
  for (const each of Object.keys(MOUNTS)) {
    byId(each).hidden = each !== name;
    const link = byId(`nav-${each}`);
    if (each === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[name]} · Headway`;
  if (name in mounted) mounted[name].show?.();
  else mounted[name] = MOUNTS[name](byId(name), { fetchEvents, server }) ?? {};
}

let looking = false;

async function look() {
  if (document.hidden || looking) return; // It may be waiting for a key.
  looking = true;
  try {
    await call("ready", { ask: false });
    tellHealth("good", "ready");
    if (server.model === null && !declined) await learnModel();
  } catch (error) {
    if (error.status === 401) return; // It is ready, and wants a key.
    if (error.status === 503) tellHealth("warn", error.message.replace(/^not ready: /, ""));
    else tellHealth("bad", error.status ? `error ${error.status}` : "cannot be reached");
  } finally {
    looking = false;
  }
}

function tellHealth(looks, words) {
  byId("health").dataset.looks = looks;
  if (byId("health-text").textContent !== words) byId("health-text").textContent = words;
}

/** Whether the reader was asked for a key and gave none: they are not asked again unasked. */
let declined = false;

async function learnModel() {
  const list = await (await call("v1/models")).json();
  const card = list.data[0];
  server.model = {
    id: card.id,
    defaults: card.default_sampling_params,
    maxLength: card.max_model_len,
  };
  byId("model-name").textContent = card.id;
  byId("model-name").title = `${card.id}: up to ${card.max_model_len.toLocaleString("en")} tokens`;
  for (const listener of server.listeners) listener();
}

async function learnVersion() {
  const { version } = await (await call("version", { ask: false })).json();
  byId("version").textContent = version;
}

/** One dialog, however many calls want a key at once. */
let asking = null;

function askForKey(refused = currentKey() !== "") {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    byId("key-input").value = currentKey();
    byId("key-wrong").hidden = !refused;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use"), { once: true });
    dialog.showModal();
  }).then((given) => {
    asking = null;
    declined = !given;
    if (given) useKey(byId("key-input").value);
    byId("key-input").value = "";
    tellKey();
    return given && currentKey() !== "";
  });
  return asking;
}

function tellKey() {
  byId("key-button").textContent = currentKey() ? "Key set" : "Key";
  for (const listener of server.listeners) listener();
}

function wireKey() {
  onKeyNeeded(() => askForKey());
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("key-dialog").close("use");
  });
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close(""));
  byId("key-button").addEventListener("click", async () => {
    if (await askForKey(false)) await look();
  });
  tellKey();
}

wireKey();
window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", look);
show();
learnVersion().catch(() => {}); // The look at the server's health says that it cannot be reached.
look();
setInterval(look, LOOK_EVERY);
