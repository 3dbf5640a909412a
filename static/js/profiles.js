// The sliders of a profile: each writes its number field, and follows it. The number fields are the form.

const form = document.getElementById("profile-form");
const sliders = [...form.querySelectorAll("[data-slider]")].map((box) => ({
  box,
  range: box.querySelector("input[type=range]"),
  number: box.querySelector("input[type=number]"),
}));
const overall = sliders[0];

function show() {
  for (const { box, range, number } of sliders) {
    const follows = number.value === "";
    box.classList.toggle("follows", follows);
    range.value = follows ? overall.number.value : number.value;
    if (follows) number.placeholder = overall.number.value;
  }
}

function changed() {
  show();
  form.dispatchEvent(new Event("input", { bubbles: true })); // the preview listens to the form
}

for (const { box, range, number } of sliders) {
  range.addEventListener("input", () => {
    number.value = range.value;
    show();
  });
  number.addEventListener("input", show);
  box.querySelector("[data-follow]")?.addEventListener("click", () => {
    number.value = "";
    changed();
    number.focus();
  });
}

form.addEventListener("click", (event) => {
  if (event.target.closest("[data-add-tag]")) {
    document.getElementById("tag-rows").append(document.getElementById("tag-row").content.cloneNode(true));
    document.querySelector("#tag-rows > .tag-row:last-child input").focus();
  }
  const remove = event.target.closest("[data-remove-tag]");
  if (remove) {
    remove.closest(".tag-row").remove();
    changed();
  }
});

show();
