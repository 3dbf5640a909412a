// Before the page is drawn: the colours a person chose, if any.
(() => {
  try {
    const chosen = localStorage.getItem("monitor-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* a browser that keeps nothing follows the system */ }
})();
