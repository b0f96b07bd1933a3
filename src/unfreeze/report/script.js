"use strict";

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const payload = (holder) => JSON.parse(holder.querySelector("script").textContent);

function download(name, text) {
  const link = make("a", { download: `${name}.csv`, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

// Spreadsheets take a text that begins like a formula for one; an apostrophe keeps it a text (OWASP, CSV injection).
const inert = (cell) => (typeof cell === "string" && /^[=+\-@\t\r\n]/.test(cell) ? `'${cell}` : String(cell ?? ""));
const csv = (rows) => rows.map((row) => row.map((cell) => `"${inert(cell).replaceAll('"', '""')}"`).join(",")).join("\n");

function select(label, options, change) {
  const element = make("select", { ariaLabel: label }, ...options.map((text, value) => make("option", { value }, text)));
  element.addEventListener("change", () => change(Number(element.value)));
  return element;
}

// Clicking a column's head sorts by it: numbers first from the largest, words first from A. Empty cells stay last.
function heads(cells, sort) {
  cells.forEach((head, column) => {
    if (!head.hasChildNodes()) return;
    head.append(make("button", { type: "button" }, ...head.childNodes));
    head.firstChild.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const ascending = head.ariaSort ? head.ariaSort === "descending" : !numeric;
      cells.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(column, ascending, numeric);
    });
  });
}

function sorted(rows, key, ascending, numeric) {
  const empty = (value) => value === "" || value === null || value === undefined;
  const compare = (a, b) => (numeric ? a - b : String(a).localeCompare(b));
  const keyed = rows.map((row) => [key(row), row]);
  keyed.sort(([a], [b]) => empty(a) - empty(b) || (ascending ? compare(a, b) : compare(b, a)));
  return keyed.map(([, row]) => row);
}

document.querySelectorAll("table.sortable").forEach((table) =>
  heads([...table.tHead.rows[0].cells], (column, ascending, numeric) => {
    const key = ({ cells: { [column]: cell } }) => cell?.dataset.sort ?? (numeric ? "" : cell?.textContent);
    table.tBodies[0].append(...sorted([...table.tBodies[0].rows], key, ascending, numeric));
  }),
);
