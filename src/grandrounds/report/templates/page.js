"use strict";
(function () {
  const bar = document.getElementById("filter");
  if (!bar) return;
  const cases = Array.from(document.querySelectorAll("article.case"));
  const status = document.getElementById("filter-status");
  bar.hidden = false;
  bar.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (!button) return;
    const wanted = button.dataset.outcome;
    let shown = 0;
    cases.forEach(function (item) {
      item.hidden = wanted !== "all" && item.dataset.outcome !== wanted;
      if (!item.hidden) shown += 1;
    });
    bar.querySelectorAll("button").forEach(function (other) {
      other.setAttribute("aria-pressed", String(other === button));
    });
    status.textContent = shown === 1 ? "1 case shown" : shown + " cases shown";
  });
})();
