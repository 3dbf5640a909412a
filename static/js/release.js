// Sending a release's files: how far it is. Without JavaScript the form sends them without a bar.

const form = document.getElementById("release-files");
const bar = document.getElementById("release-progress");

form?.addEventListener("htmx:xhr:progress", (event) => {
  if (!event.detail.lengthComputable) return;
  bar.hidden = false;
  bar.value = event.detail.loaded / event.detail.total;
});
form?.addEventListener("htmx:afterRequest", () => {
  bar.hidden = true;
});
