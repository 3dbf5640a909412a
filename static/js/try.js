// Try it: hands a picture over, then shows its tags by the sliders without asking the server again.
// Thresholds are compared as bytes, as everywhere on the site: a tag is on at ceil(threshold * 254). A slider has
// steps, so it says something of its own only once it was moved; until then the profile's number counts.

const $ = (id) => document.getElementById(id);
const form = $("try-form");
const box = $("try-tags");
const groups = [...document.querySelectorAll("[data-category]")];
const sliders = [...document.querySelectorAll("[data-threshold]")];
let data = null; // what the server found: release, stages, profiles
let profile = null;
const moved = new Set(); // the sliders that were, since the profile was chosen
const OWN = "own";

const toByte = (percent) => Math.min(254, Math.max(1, Math.ceil(Math.round(percent * 2.54 * 1e6) / 1e6)));
const percent = (byte) => `${Math.round((byte / 254) * 100)}%`;
const spaced = (name) => (/[^\W_]{2}/u.test(name) ? name.replaceAll("_", " ") : name);
const stage = () => {
  const wanted = document.querySelector("[name=stage]:checked").value;
  return data.stages[wanted] ?? Object.values(data.stages)[0];
};

/** The picture's place, its tags dimmed until the new ones come. */
function preview(source) {
  const image = $("try-picture");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.src = source;
  image.hidden = false;
  image.onerror = () => (image.hidden = true); // no picture: the answer says so
  box.classList.add("is-old");
}

function hand(files) {
  const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
  if (!file) return;
  const carrier = new DataTransfer();
  carrier.items.add(file);
  $("picture").files = carrier.files;
  $("picture").dispatchEvent(new Event("change", { bubbles: true }));
}

/** Where the profiles of the release that answered have this one; of a shipped one, that of its key. */
function placeOf(wanted) {
  const same = data.profiles.findIndex((one) => one.id === wanted.id);
  const twin = data.profiles.findIndex((one) => !one.own && !wanted.own && one.key === wanted.key);
  return Math.max(0, same < 0 ? twin : same);
}

/** The profiles of the release that answered; what was chosen before stays, or how the sliders were set. */
function offer() {
  const select = $("try-profile");
  const bySliders = select.value === OWN;
  select.replaceChildren(
    ...data.profiles.map((one, index) => new Option(one.own ? `${one.name} (yours)` : one.name, index)),
    new Option("As the sliders stand", OWN, false, false),
  );
  select.options[select.options.length - 1].hidden = true;
  if (bySliders) select.value = OWN;
  else use(placeOf(profile ?? data.chosen));
}

function use(index) {
  profile = data.profiles[index] ?? { key: "", overall: 0.5, by_category: {}, by_tag: {} };
  $("try-profile").value = String(index);
  moved.clear();
  for (const slider of [...sliders, $("try-overall")]) slider.value = wanted(slider);
}

/** The percent that a slider stands for: its own if it was moved, else the profile's, between its steps too. */
function wanted(slider) {
  if (!profile || moved.has(slider)) return Number(slider.value);
  return (profile.by_category[slider.dataset.threshold] ?? profile.overall) * 100;
}

const numbers = () => {
  for (const range of document.querySelectorAll(".try-options input[type=range]")) {
    const number = range.id === "try-least" ? Number(range.value) : wanted(range);
    range.nextElementSibling.textContent = `${number.toFixed(1).replace(/\.0$/, "")}%`;
  }
};

/** Which byte turns a tag on: the profile's own number for it, else its category's slider. */
function limits() {
  const byCategory = Object.fromEntries(sliders.map((slider) => [slider.dataset.threshold, toByte(wanted(slider))]));
  return (name, category) => (name in profile.by_tag ? toByte(profile.by_tag[name] * 100) : byCategory[category]);
}

function judged() {
  const limit = limits();
  let rating = null; // rows come most confident first, so the first rating is the post's one
  return stage().map(([name, category, byte]) => {
    const on = category === "rating" ? rating === null && Boolean((rating = name)) : byte >= limit(name, category);
    return { name, category, byte, on };
  });
}

const ORDERS = {
  down: (a, b) => b.byte - a.byte,
  up: (a, b) => a.byte - b.byte,
  name: (a, b) => a.name.localeCompare(b.name),
};

function line(tag) {
  const item = document.createElement("li");
  item.className = tag.on ? "try-tag" : "try-tag is-off";
  const name = document.createElement("span");
  name.className = "tag";
  name.textContent = $("try-spaces").checked ? spaced(tag.name) : tag.name;
  const sure = document.createElement("span");
  sure.className = "small number muted";
  sure.textContent = percent(tag.byte);
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.append(document.createElement("span"));
  bar.firstChild.style.setProperty("--part", tag.byte / 254);
  item.append(name, sure, bar);
  return item;
}

function text(tags) {
  const picked = new Set([...document.querySelectorAll("[data-pick]:checked")].map((one) => one.dataset.pick));
  const order = groups.map((group) => group.dataset.category);
  const chosen = tags.filter((tag) => tag.on && picked.has(tag.category));
  chosen.sort((a, b) => order.indexOf(a.category) - order.indexOf(b.category));
  return chosen.map((tag) => ($("try-spaces").checked ? spaced(tag.name) : tag.name)).join(", ");
}

function show() {
  numbers();
  if (!data) return;
  const tags = judged().sort(ORDERS[$("try-sort").value]);
  const words = $("try-filter").value.trim().toLowerCase().replaceAll(" ", "_");
  const least = toByte($("try-least").value);
  const all = $("try-all").checked;
  const shown = tags.filter((tag) => (tag.on || all) && tag.byte >= least && tag.name.toLowerCase().includes(words));
  for (const group of groups) {
    const mine = shown.filter((tag) => tag.category === group.dataset.category);
    group.hidden = mine.length === 0;
    group.querySelector(".number").textContent = mine.length;
    group.querySelector("ul").replaceChildren(...mine.map(line));
  }
  box.classList.toggle("is-compact", $("try-compact").checked);
  $("try-none").hidden = shown.length > 0;
  $("try-count").textContent = `${tags.filter((tag) => tag.on).length} on of ${tags.length}`;
  $("try-text").value = text(tags);
}

/** New tags came with the answer, or the page was opened with them. */
function take() {
  const found = $("try-data");
  if (document.querySelector("#try-result .message-error")) box.hidden = true; // the tags of the picture before
  if (!found) return;
  data = JSON.parse(found.textContent);
  found.remove();
  $("try-stage").hidden = Object.keys(data.stages).length < 2;
  offer();
  box.hidden = $("try-options").hidden = false;
  box.classList.remove("is-old");
  show();
}

function save() {
  const link = document.createElement("a");
  const name = $("picture").files[0]?.name.replace(/\.[^.]*$/, "") || "tags";
  link.href = URL.createObjectURL(new Blob([`${$("try-text").value}\n`], { type: "text/plain" }));
  link.download = `${name}.txt`;
  link.click();
  URL.revokeObjectURL(link.href);
}

if (form) {
  $("picture").addEventListener("change", () => {
    if ($("picture").files.length === 0) return;
    preview(URL.createObjectURL($("picture").files[0]));
    htmx.trigger(form, "picture");
  });
  form.addEventListener("click", (event) => {
    const example = event.target.closest("[name=example]");
    if (!example) return;
    $("picture").value = ""; // else the file would be sent beside the example
    preview(example.querySelector("img").src);
  });
  form.addEventListener("htmx:configRequest", (event) => {
    // A picture that is dropped leaves the focus on the example pressed before, which HTMX would send beside it.
    if (event.detail.triggeringEvent?.type === "picture") delete event.detail.parameters.example;
  });
  document.addEventListener("htmx:afterSwap", take);
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.add("is-over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").classList.remove("is-over");
  });
  document.addEventListener("drop", (event) => {
    $("drop").classList.remove("is-over");
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    hand(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) hand(event.clipboardData.files);
  });
  $("try-profile").addEventListener("change", (event) => use(Number(event.target.value)));
  $("try-overall").addEventListener("input", (event) => {
    for (const slider of sliders) {
      slider.value = event.target.value;
      moved.add(slider);
    }
  });
  for (const slider of [...sliders, $("try-overall")]) {
    slider.addEventListener("input", () => {
      moved.add(slider);
      $("try-profile").value = OWN;
    });
  }
  for (const part of [$("try-options"), box]) {
    part.addEventListener("input", show);
    part.addEventListener("change", show);
  }
  $("try-save").addEventListener("click", save);
  take();
}
