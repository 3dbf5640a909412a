// Small behaviours of every page: the theme button, menus that close, dialogs that open.

const YEAR = 60 * 60 * 24 * 365;

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  // A cookie, not localStorage: the server writes the choice into the next page, so nothing flashes.
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=${YEAR}; samesite=lax`;
}

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (menu !== except) menu.open = false;
  }
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-theme-toggle]")) toggleTheme();
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  if (event.target.matches("dialog")) event.target.close(); // a click beside the box
  closeMenus(event.target.closest("details[data-menu]"));
});

// A menu that asks for something is opened to write in it.
document.addEventListener("toggle", (event) => {
  if (!event.target.open || !event.target.matches("details[data-menu]")) return;
  event.target.querySelector("input:not([type=hidden])")?.focus();
}, true);

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details[data-menu][open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

/** Say under the header that an action failed; the page stays as it was. */
function complain(sentence) {
  const box = document.getElementById("messages");
  const message = document.createElement("div");
  message.className = "message message-error";
  message.dataset.complaint = "";
  message.textContent = sentence;
  box.replaceChildren(message);
  box.hidden = false;
  message.scrollIntoView({ block: "nearest" });
}

document.addEventListener("htmx:responseError", (event) => {
  const { status, responseText } = event.detail.xhr;
  if (status === 422) return; // the part that came back says it
  const plain = event.detail.xhr.getResponseHeader("Content-Type")?.startsWith("text/plain");
  complain(plain ? responseText : `That did not work (error ${status}): reload the page and try again.`);
});
document.addEventListener("htmx:sendError", () => {
  complain("The site can't be reached: check the connection and try again.");
});
document.addEventListener("htmx:afterRequest", (event) => {
  const old = document.querySelector("[data-complaint]");
  if (!old || !event.detail.successful) return; // it works again
  old.remove();
  document.getElementById("messages").hidden = true;
});
