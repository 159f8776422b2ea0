(function () {
  "use strict";

  // A number in the table leads to its trials, which lie inside closed parts of the page.
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.closest("#campaign")) { return; }
    for (let part = target; part; part = part.parentElement) {
      if (part.tagName === "DETAILS") { part.open = true; }
    }
    target.scrollIntoView({ block: "center" });
  }
  window.addEventListener("hashchange", reveal);

  // Selected in any case, so that the keyboard copies it where the page may not.
  function copy(code, button) {
    function done() { button.textContent = "copied"; }
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    if (document.execCommand("copy")) {
      done();
    } else if (navigator.clipboard) {
      navigator.clipboard.writeText(code.textContent).then(done, function () { button.textContent = "selected"; });
    }
  }

  // Buttons only where trials are open: there may be thousands.
  document.querySelectorAll("#campaign details.cell").forEach(function (cell) {
    cell.addEventListener("toggle", function () {
      if (!cell.open || cell.dataset.ready) { return; }
      cell.dataset.ready = "yes";
      cell.querySelectorAll("td code").forEach(function (code) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "copy";
        button.textContent = "copy";
        button.addEventListener("click", function () { copy(code, button); });
        code.after(button);
      });
    });
  });
  reveal();
}());
