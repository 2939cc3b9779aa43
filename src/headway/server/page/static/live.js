/**
 * The Live view: how many requests the server has now.
 */

import { call } from "./api.js";
import { element } from "./dom.js";

const LOOK_EVERY = 2000;
const FIGURES = { running: "Running", waiting: "Waiting", server_load: "Requests in flight" };

/**
 * Fill the Live view; it looks at the server's load only while it is shown.
 *
 * @param {HTMLElement} root
 */
export function mountLive(root) {
  const values = {};
  const boxes = Object.entries(FIGURES).map(([name, label]) => {
    values[name] = element("span", { class: "value" }, "–");
    return element("div", { class: "figure" }, element("span", { class: "label" }, label), values[name]);
  });
  root.append(element("div", { class: "figures" }, ...boxes));
  const look = async () => {
    try {
      const load = await (await call("load", { ask: false })).json();
      for (const name of Object.keys(FIGURES)) values[name].textContent = String(load[name]);
    } catch {
      for (const name of Object.keys(FIGURES)) values[name].textContent = "–";
    }
  };
  let timer = 0;
  const show = () => {
    look();
    timer = setInterval(look, LOOK_EVERY);
  };
  show();
  return { show, hide: () => clearInterval(timer) };
}
