// Find similar: a picture that is chosen, dropped or pasted is searched with at once.

const form = document.getElementById("similar-form");
const input = document.getElementById("picture");
const drop = document.getElementById("drop");

function hand(files) {
  const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
  if (!file) return;
  const carrier = new DataTransfer();
  carrier.items.add(file);
  input.files = carrier.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

input.addEventListener("change", () => {
  if (input.files.length === 0) return;
  const image = document.getElementById("similar-picture");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(input.files[0]);
  image.hidden = false;
  image.onerror = () => (image.hidden = true); // no picture: the answer says so
  htmx.trigger(form, "picture");
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  drop.classList.add("is-over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("is-over");
});
document.addEventListener("drop", (event) => {
  drop.classList.remove("is-over");
  if (event.dataTransfer.files.length === 0) return;
  event.preventDefault();
  hand(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) hand(event.clipboardData.files);
});
