"use strict";

// A click on a column's head sorts by it: numbers first from the largest, words first from A. Empty cells stay last.
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const ascending = head.ariaSort ? head.ariaSort === "descending" : !numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (row) => row.cells[column]?.dataset.sort ?? (numeric ? "" : row.cells[column]?.textContent ?? "");
      const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (a === "") - (b === "") || (ascending ? compare(a, b) : compare(b, a)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

document.querySelectorAll("table.sortable").forEach(sortable);
