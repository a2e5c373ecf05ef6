/* Light or dark: what the system prefers, until the button says otherwise. Runs before the page is drawn. */
"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const wanted = () => localStorage.getItem("theme") ?? (system.matches ? "dark" : "light");
  const apply = () => {
    root.dataset.theme = wanted();
    const dark = root.dataset.theme === "dark";
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark));
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      localStorage.setItem("theme", root.dataset.theme === "dark" ? "light" : "dark");
      apply();
    });
  });
})();
