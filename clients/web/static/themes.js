// The button that chooses between the system's theme, light and dark. `theme.js` applies the choice before the page is drawn.

import { storage } from "./storage.js";

export function themes() {
  const button = document.getElementById("theme");
  const order = ["auto", "light", "dark"];
  const kept = storage("localStorage");
  const stored = () => kept.getItem("theme") ?? "auto";
  const show = (theme) => {
    button.lastElementChild.textContent = theme;
    button.setAttribute("aria-label", `Theme: ${theme}`);
  };
  show(stored());
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(stored()) + 1) % order.length];
    if (next === "auto") {
      kept.removeItem("theme");
      delete document.documentElement.dataset.theme;
    } else {
      kept.setItem("theme", next);
      document.documentElement.dataset.theme = next;
    }
    show(next);
  });
}
