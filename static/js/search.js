// Suggestions under the search box: an ARIA combobox over the `suggest` route.
// Any <form data-suggest="URL"> with one text input becomes one; without JavaScript it stays a form.
// With data-suggest-one the box holds one tag by name, not a search.

const WAIT = 120; // milliseconds without a key before asking
const CATEGORY = /^(general|gen|artist|art|copyright|copy|character|char|meta|year):/;

/** Where the word that the cursor is in ends. */
function wordEnd(input) {
  const rest = input.value.slice(input.selectionStart).search(/[\s)]/);
  return rest < 0 ? input.value.length : input.selectionStart + rest;
}

/** How many characters the server counts before the cursor: one that is two units long here is one there. */
function cursorOf(input) {
  return [...input.value.slice(0, input.selectionStart)].length;
}

/** Two leading digits of an estimate: more would say more than is known. */
function counted({ count, exact }) {
  if (exact) return count.toLocaleString("en");
  if (count === 0) return "few";
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(count)) - 1);
  return `~${(Math.round(count / unit) * unit).toLocaleString("en")}`;
}

function option(suggestion, id) {
  const item = document.createElement("li");
  item.id = id;
  item.role = "option";
  item.ariaSelected = "false";
  item.suggestion = suggestion;
  const name = document.createElement("span");
  name.className = `suggestion-name tag tag-${suggestion.category ?? "none"}`;
  name.textContent = suggestion.alias_of ? `${suggestion.label} → ${suggestion.alias_of}` : suggestion.label;
  item.append(name);
  if (suggestion.count !== null) {
    const count = document.createElement("span");
    count.className = "muted small number";
    count.textContent = counted(suggestion);
    item.append(count);
  }
  return item;
}

class Combobox {
  constructor(form) {
    this.form = form;
    this.input = form.querySelector("input[type=text]");
    this.one = form.hasAttribute("data-suggest-one");
    this.list = document.createElement("ul");
    this.list.className = "suggestions";
    this.list.id = `${this.input.id}-suggestions`;
    this.list.role = "listbox";
    this.list.ariaLabel = "Suggestions";
    this.list.hidden = true;
    form.append(this.list);
    Object.assign(this.input, { role: "combobox", ariaAutoComplete: "list", ariaExpanded: "false" });
    this.input.setAttribute("aria-controls", this.list.id);
    this.input.addEventListener("input", () => this.typed());
    for (const kind of ["keyup", "click"]) this.input.addEventListener(kind, () => this.follow());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    form.addEventListener("submit", () => this.close()); // an answer on its way would open over the next word
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // keep the focus
    this.list.addEventListener("click", (event) => this.take(event.target.closest("li")));
  }

  typed() {
    if (!this.one && /\s$/.test(this.input.value.slice(0, this.input.selectionStart))) this.close(); // the word is done
    this.askSoon();
  }

  /** What was suggested for one word is nothing for another that the cursor went to. */
  follow() {
    if (!this.one && !this.list.hidden && this.left()) this.close();
  }

  /** Whether the cursor left the place that was asked about; typing asks again by itself. */
  left() {
    return this.input.value === this.asked.value && this.input.selectionStart !== this.asked.cursor;
  }

  askSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), WAIT);
  }

  async ask() {
    this.request?.abort();
    this.request = new AbortController();
    this.asked = { value: this.input.value, cursor: this.input.selectionStart };
    const url = new URL(this.form.dataset.suggest, location.href);
    url.search = new URLSearchParams(this.question());
    try {
      const answer = await fetch(url, { signal: this.request.signal, headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const { suggestions } = await answer.json();
      this.show(this.one ? suggestions.filter((each) => each.category) : suggestions);
    } catch (error) {
      if (error.name !== "AbortError") this.close(); // suggestions are a help: without them one types on
    }
  }

  question() {
    if (!this.one) return { q: this.input.value, cursor: cursorOf(this.input) };
    return { q: this.input.value.replace(CATEGORY, "").trim().replace(/\s+/g, "_") };
  }

  show(suggestions) {
    if (document.activeElement !== this.input || (!this.one && this.left())) return;
    this.list.replaceChildren(...suggestions.map((each, i) => option(each, `${this.list.id}-${i}`)));
    this.list.hidden = suggestions.length === 0;
    this.input.ariaExpanded = String(!this.list.hidden);
    this.select(null);
  }

  close() {
    clearTimeout(this.timer);
    this.request?.abort();
    this.list.hidden = true;
    this.input.ariaExpanded = "false";
    this.select(null);
  }

  select(item) {
    this.selected?.setAttribute("aria-selected", "false");
    this.selected = item;
    if (!item) return this.input.removeAttribute("aria-activedescendant");
    item.setAttribute("aria-selected", "true");
    item.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", item.id);
  }

  take(item) {
    if (!item) return;
    const { value, label, alias_of: alias, start } = item.suggestion;
    this.close();
    if (this.one) {
      this.input.value = alias ?? label;
      return;
    }
    const unfinished = value.endsWith(":"); // rating: goes on with a value
    const tail = this.input.value.slice(wordEnd(this.input)).trimStart();
    const head = [...this.input.value].slice(0, start).join("") + value + (unfinished ? "" : " ");
    this.input.value = head + tail;
    this.input.setSelectionRange(head.length, head.length);
    if (unfinished) this.askSoon();
  }

  key(event) {
    if (this.list.hidden || event.isComposing) return;
    const items = [...this.list.children];
    const at = items.indexOf(this.selected);
    const keys = {
      ArrowDown: () => this.select(items[(at + 1) % items.length]),
      ArrowUp: () => this.select(items[at <= 0 ? items.length - 1 : at - 1]),
      Escape: () => this.close(),
      Tab: () => this.take(this.selected ?? items[0]),
      Enter: () => (this.selected ? this.take(this.selected) : false),
    };
    const act = event.shiftKey ? undefined : keys[event.key];
    if (act && act() !== false) event.preventDefault();
  }
}

function enhance(root) {
  for (const form of root.querySelectorAll("form[data-suggest]")) {
    if (!form.dataset.ready) {
      form.dataset.ready = "yes";
      new Combobox(form);
    }
  }
}

enhance(document);
document.addEventListener("htmx:afterSwap", () => enhance(document)); // parts bring boxes of their own
