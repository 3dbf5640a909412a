// Buttons that copy a field: <button data-copy="the field's id">.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    document.execCommand("copy"); // without HTTPS browsers keep the clipboard shut
  }
  button.textContent = "Copied";
});
