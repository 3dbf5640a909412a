// Keys of every page: `/` search, arrows or j k through posts and pages, y n u for the tag in focus or under review.

const FIELDS = "input, textarea, select, [contenteditable]";

const click = (selector) => () => document.querySelector(selector)?.click();

function focus(selector) {
  const element = document.querySelector(selector);
  element?.focus();
  element?.select?.();
  return element;
}

function verdict(value) {
  const row = document.activeElement?.closest("[data-tag]") ?? document.querySelector("[data-question]");
  const button = value === "undo" ? row?.querySelector(".undo") : row?.querySelector(`.${value}`);
  if (!button) return;
  if (row.matches("[data-tag]")) row.querySelector(".tag").focus(); // HTMX finds the focus again by id when the panel is new
  button.click();
}

/** Move among the tags; false when none is in focus, so that the page scrolls as always. */
function step(by) {
  const links = [...document.querySelectorAll("[data-tag] .tag")];
  const at = links.findIndex((link) => link.closest("[data-tag]").contains(document.activeElement));
  if (at < 0) return false;
  links[(at + by + links.length) % links.length].focus();
  return true;
}

const KEYS = {
  "/": () => focus("#search"),
  ArrowLeft: click("[data-key=newer]"),
  k: click("[data-key=newer]"),
  ArrowRight: click("[data-key=older]"),
  j: click("[data-key=older]"),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  t: () => focus("[data-tag] .tag"),
  a: () => focus("#add-tag"),
  e: click("[data-edit] > summary"),
  b: click("[data-key=blacklist]"),
  y: () => verdict("yes"),
  n: () => verdict("no"),
  u: () => verdict("undo"),
  "?": () => document.getElementById("keys")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.isComposing) return; // Escape is the input method's
  const typing = event.target.closest?.(FIELDS);
  if (typing && event.key === "Escape" && !event.defaultPrevented) typing.blur(); // the first one closes the suggestions
  if (typing || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  const act = KEYS[event.key];
  if (act && act() !== false) event.preventDefault();
});
