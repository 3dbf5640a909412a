// Sends the chosen, dropped or pasted files one after the other, each with its progress and answer.
// The server writes the answers; htmx then asks for the tags. Without JavaScript the form sends all at once.

const form = document.getElementById("upload-form");
const rows = document.getElementById("upload-rows");
const veil = document.getElementById("drop-veil");
const words = document.getElementById("upload-words");
const retryAll = document.getElementById("retry-all");
const cancelAll = document.getElementById("cancel-all");
const unread = document.getElementById("upload-unread");
const nearAll = document.getElementById("near-all");
const maxBytes = Number(form.dataset.maxBytes);
const items = []; // {file, row, state: waiting | sending | done | refused | failed | cancelled}
let current = null;

const part = (item, name) => item.row.querySelector(name);

function say(item, text, className) {
  const line = document.createElement("p");
  line.className = className;
  line.textContent = text;
  part(item, ".upload-result").replaceChildren(line);
}

function set(item, state) {
  item.state = state;
  part(item, "[data-cancel]").hidden = !["waiting", "sending"].includes(state);
  part(item, "[data-retry]").hidden = !["failed", "cancelled"].includes(state);
  sum();
}

function sum() {
  const count = (...states) => items.filter((item) => states.includes(item.state)).length;
  const left = count("waiting", "sending");
  const told = [
    `${count("done")} of ${items.length} sent`,
    left && `${left} to go`,
    count("refused") && `${count("refused")} refused`,
    count("failed") && `${count("failed")} failed`,
    count("cancelled") && `${count("cancelled")} cancelled`,
  ];
  words.textContent = told.filter(Boolean).join(" · ");
  document.getElementById("upload-sum").hidden = items.length === 0;
  retryAll.hidden = count("failed") === 0;
  cancelAll.hidden = left < 2;
}

/** The choice for all, while several pictures wait for one. */
function countHeld() {
  const held = rows.querySelectorAll("[data-held]").length;
  document.getElementById("near-count").textContent = held;
  nearAll.hidden = held < 2;
}

/** After a choice: its buttons are gone, so the words in their place take the focus. */
function chosen(event) {
  countHeld();
  if (event.detail.requestConfig?.verb !== "post") return; // tags that came
  document.getElementById("held-words")?.remove(); // the number waiting when the page came
  const answered = event.target.closest(".upload-result");
  if (answered && document.activeElement === document.body) answered.querySelector("a")?.focus();
}

function preview(item) {
  if (!item.file.type.startsWith("image/")) return;
  const image = new Image();
  image.alt = "";
  image.src = URL.createObjectURL(item.file);
  image.onload = () => part(item, ".upload-thumb").replaceChildren(image);
  image.onerror = () => URL.revokeObjectURL(image.src);
}

function add(files) {
  for (const file of files) {
    const row = document.getElementById("upload-row").content.firstElementChild.cloneNode(true);
    const item = { file, row, state: "waiting" };
    part(item, ".upload-name").textContent = file.name;
    part(item, "[data-cancel]").ariaLabel = `Cancel ${file.name}`;
    part(item, "[data-cancel]").addEventListener("click", () => cancel(item));
    part(item, "[data-retry]").addEventListener("click", () => retry(item));
    rows.append(row);
    items.push(item);
    preview(item);
    set(item, "waiting");
    if (file.size > maxBytes) {
      say(item, `The file is too large: send one of at most ${form.dataset.maxMb} MB.`, "upload-refusal");
      set(item, "refused");
    }
  }
  next();
}

function next() {
  if (current) return;
  current = items.find((item) => item.state === "waiting");
  if (current) send(current);
}

function finish(item, state) {
  current = null;
  set(item, state);
  next();
}

function send(item) {
  const body = new FormData(form);
  body.delete("files");
  body.append("files", item.file, item.file.name);
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/); // a newer one than the form's after signing in again
  if (token) body.set("csrfmiddlewaretoken", token[1]);
  const bar = document.createElement("progress");
  bar.className = "progress";
  bar.max = 1;
  bar.ariaLabel = `Sending ${item.file.name}`;
  part(item, ".upload-result").replaceChildren(bar);
  const request = new XMLHttpRequest();
  item.request = request;
  request.upload.onprogress = (event) => {
    if (event.lengthComputable) bar.value = event.loaded / event.total;
  };
  request.onload = () => answered(item, request);
  request.onerror = () => {
    say(item, "The site could not be reached: check the connection and try again.", "upload-refusal");
    finish(item, "failed");
  };
  request.onabort = () => finish(item, "cancelled");
  request.open("POST", form.action);
  request.setRequestHeader("HX-Request", "true");
  request.setRequestHeader("HX-Current-URL", location.href);
  request.send(body);
  set(item, "sending");
}

function answered(item, request) {
  if (request.getResponseHeader("HX-Redirect")) {
    say(item, "You are signed out: sign in again in another tab, then try again here.", "upload-refusal");
    return finish(item, "failed");
  }
  if (request.status !== 200 && request.status !== 400) {
    const why = request.status === 413 ? "The file is too large for the server in front of the site" : "The site failed";
    say(item, `${why} (${request.status}): try again later, or tell the staff.`, "upload-refusal");
    return finish(item, "failed");
  }
  const result = part(item, ".upload-result");
  result.innerHTML = request.responseText; // written by our own server, names escaped there
  htmx.process(result);
  showStored(item, result.querySelector("[data-post]"));
  countHeld();
  if (result.querySelector("[data-again]")) return finish(item, "failed");
  return finish(item, request.status === 200 ? "done" : "refused");
}

function showStored(item, link) {
  if (!link || part(item, ".upload-thumb img")) return; // the browser could not show it by itself
  const image = new Image();
  image.alt = "";
  image.src = link.dataset.post;
  part(item, ".upload-thumb").replaceChildren(image);
}

function cancel(item) {
  if (item.state === "sending") return item.request.abort();
  if (item.state !== "waiting") return;
  set(item, "cancelled");
  say(item, "Cancelled", "muted small");
}

function retry(item) {
  say(item, "Waits its turn", "muted small");
  set(item, "waiting");
  next();
}

/** All files of a drop, those in folders too; null for each file or folder that can't be read. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((each) => each.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(within))).flat();
}

async function within(entry) {
  if (entry.isFile) return [await new Promise((take) => entry.file(take, () => take(null)))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((take) => reader.readEntries(take, () => take(null))); // a hundred at a time
    if (!some?.length) return some ? files : [...files, null];
    files.push(...(await Promise.all(some.map(within))).flat());
  }
}

function tellUnread(count) {
  const told = count === 1 ? "1 file or folder" : `${count} files or folders`;
  unread.textContent = count ? `${told} could not be read: see that you may open them, then drop them again.` : "";
  unread.hidden = count === 0;
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  veil.hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) veil.hidden = true;
});
document.addEventListener("drop", async (event) => {
  veil.hidden = true;
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const found = await dropped(event.dataTransfer);
  add(found.filter(Boolean));
  tellUnread(found.filter((file) => file === null).length);
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length === 0) return;
  event.preventDefault();
  add(files);
});
for (const id of ["files", "folder"]) {
  document.getElementById(id).addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = ""; // the same file can be chosen again
  });
}
document.getElementById("folders").hidden = !("webkitdirectory" in HTMLInputElement.prototype);
nearAll.addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = event.submitter.value;
  for (const held of rows.querySelectorAll("[data-held]")) {
    (held.querySelector(`[value=${wanted}]`) ?? held.querySelector("[value=keep]")).click();
  }
});
document.addEventListener("htmx:afterSwap", chosen);
form.addEventListener("submit", (event) => event.preventDefault()); // Enter in the source field
retryAll.addEventListener("click", () => items.filter((item) => item.state === "failed").forEach(retry));
cancelAll.addEventListener("click", () => [...items].reverse().forEach(cancel)); // the one being sent last
window.addEventListener("beforeunload", (event) => {
  if (items.some((item) => item.state === "sending" || item.state === "waiting")) event.preventDefault();
});
