// Elements without markup in strings: what runs say is only ever text.

export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") element.className = value;
    else if (key === "style") for (const [part, text] of Object.entries(value)) element.style.setProperty(part, text);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// An icon's path, drawn like the site's.
export function icon(path, label = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
  drawn.setAttribute("d", path);
  svg.append(drawn);
  return label ? h("span", { class: "row" }, svg, h("span", { class: "visually-hidden" }, label)) : svg;
}

// Puts `make()` into a place only when what it shows has changed, so that focus, scrolling and selections stay.
export function refresh(place, shown, make) {
  const signature = JSON.stringify(shown);
  if (place.dataset.shown === signature) return;
  place.dataset.shown = signature;
  place.replaceChildren(...[make()].flat(3).filter(Boolean));
}

// A row of buttons of which one is pressed. `options` are pairs of value and label.
export function choice(label, options, chosen, choose) {
  const box = h("div", { class: "choice", role: "group", "aria-label": label });
  const press = (value) => {
    for (const button of box.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
  };
  for (const [value, text] of options) {
    const button = h("button", { type: "button" }, text);
    button.dataset.value = value;
    button.addEventListener("click", () => { press(value); choose(value); });
    box.append(button);
  }
  press(chosen);
  box.press = press;
  return box;
}

// A button that stays pressed or not.
export function chip(content, pressed, toggle) {
  const button = h("button", { type: "button", class: "chip", "aria-pressed": String(pressed) }, content);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(now));
    toggle(now);
  });
  return button;
}

// What a person chose, kept by the browser where it keeps anything.
export function kept(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`monitor-${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(`monitor-${name}`, JSON.stringify(value));
  } catch { /* then it lasts as long as the page */ }
}
