// The post page: the original in place of the sample, a clean box after a tag was added, a form that opens.

function zoom(event) {
  const link = event.target.closest("[data-zoom]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const stage = link.closest("[data-stage]");
  const image = link.querySelector("img");
  image.dataset.sample ??= image.getAttribute("src");
  const original = stage.classList.toggle("is-original");
  image.src = original ? link.href : image.dataset.sample;
}

document.addEventListener("click", zoom);

document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.detail.elt.closest("[data-clear]");
  if (form && event.detail.successful) form.querySelector("input[type=text]").value = "";
});

// The panel above the box grew by a tag: the box and its answer stay in view.
document.addEventListener("htmx:afterSettle", () => {
  const form = document.activeElement?.closest("[data-clear]");
  form?.scrollIntoView({ block: "nearest" });
});

document.addEventListener("toggle", (event) => {
  const form = event.target.open && event.target.matches("[data-edit]") && event.target.querySelector("form");
  // One that comes back with a mistake has the focus there.
  if (form && !form.contains(document.activeElement)) form.querySelector("input:not([type=hidden])").focus();
}, true);
