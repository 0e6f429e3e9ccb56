// Tables sort by a column when its heading is pressed: numbers by value, the highest first, words by the alphabet.
// Groups of rows, such as those selected on the test split, stay apart. What has no value goes last.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.querySelectorAll("thead tr:first-child th")];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") === "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      for (const body of table.tBodies) {
        const rows = [...body.rows];
        rows.sort((a, b) => compare(value(a, column), value(b, column), rising));
        rows.forEach((row) => body.append(row));
      }
    });
  });
}
function value(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number.parseFloat(cell.dataset.value) : cell.textContent.trim();
}
function compare(a, b, rising) {
  const [emptyA, emptyB] = [a, b].map((v) => v === "" || Number.isNaN(v));
  if (emptyA || emptyB) return emptyA - emptyB;
  const order = typeof a === "number" && typeof b === "number" ? b - a : String(b).localeCompare(String(a));
  return rising ? -order : order;
}
// A link to a section that is folded away unfolds it.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
}
addEventListener("hashchange", unfold);
unfold();
// Paper has no folds: all sections are printed, and folded again after it.
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  folded.forEach((section) => (section.open = true));
});
addEventListener("afterprint", () => folded.splice(0).forEach((section) => (section.open = false)));
