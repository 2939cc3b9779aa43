// Light or dark, before anything is drawn, and the button that changes it. A plain script rather
// than a module: modules run after the first paint. `<html data-theme>` always says which it is, and
// the window gets the event "themechange" when that changes.
(() => {
  const KEPT = "headway.theme";
  const CHOICES = ["auto", "light", "dark"];
  const WORDS = { auto: "automatic", light: "light", dark: "dark" };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let choice = "auto";
  try {
    const kept = localStorage.getItem(KEPT);
    if (CHOICES.includes(kept)) choice = kept;
  } catch {
    // Storage may be blocked; the choice then lasts as long as the page.
  }

  function apply() {
    const theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.theme = theme;
    window.dispatchEvent(new Event("themechange"));
  }

  function tell(button) {
    button.dataset.choice = choice;
    button.title = `Colours: ${WORDS[choice]}`;
    button.setAttribute("aria-label", button.title);
  }

  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-button");
    tell(button);
    button.addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      try {
        localStorage.setItem(KEPT, choice);
      } catch {
        // As above.
      }
      apply();
      tell(button);
    });
  });
})();
