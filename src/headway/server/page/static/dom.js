/**
 * Elements, and words for those who do not see them.
 *
 * Whatever comes from a model, a server or a reader enters the page as text: nothing here, and
 * nothing elsewhere on the page, takes HTML.
 */

/**
 * A new element. Attributes that are functions are listeners ("onclick"), true is an attribute
 * without a value, and those that are false, null or undefined are left out; so are such children.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/**
 * The element of the page that has this id; an id that is nowhere is a fault of ours.
 *
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

/**
 * Have screen readers say something once they are done with what they are saying.
 *
 * @param {string} text
 */
export function announce(text) {
  byId("announcer").textContent = text;
}

/**
 * A button that copies a text, and says for a moment that it did.
 *
 * @param {string} label
 * @param {() => string} text
 * @returns {HTMLElement}
 */
export function copyButton(label, text) {
  const button = element("button", { type: "button", class: "button quiet" }, label);
  button.addEventListener("click", async () => {
    const done = await copied(text());
    button.textContent = done ? "Copied" : "Select and copy by hand";
    announce(button.textContent);
    setTimeout(() => (button.textContent = label), 1600);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // Browsers refuse on pages that come neither over HTTPS nor from this machine.
  }
}
