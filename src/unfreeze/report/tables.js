"use strict";

const PAGE = 25;
const SHOWN = {
  percent: (value) => `${(100 * value).toFixed(1)}\u202f%`,
  points: (value) => `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)}`,
  decimal: (value) => value.toPrecision(3),
  count: (value) => value.toLocaleString("en").replaceAll(",", "\u202f"),
};

// A table of many rows: searched, filtered by its columns of choices, sorted, and shown a page at a time.
function listing(holder) {
  const { name, columns, rows } = payload(holder);
  const state = { search: "", chosen: new Map(), rows, shown: PAGE };
  const matching = () =>
    state.rows.filter(
      (row) =>
        [...state.chosen].every(([column, value]) => row[column] === value) &&
        (!state.search || columns.some(({ kind }, i) => kind === "text" && row[i].toLowerCase().includes(state.search))),
    );
  const body = make("tbody");
  const count = make("span", { className: "count", ariaLive: "polite" });
  const more = make("button", { type: "button", className: "more" }, `Show ${PAGE} more`);

  const draw = () => {
    const found = matching();
    body.replaceChildren(...found.slice(0, state.shown).map((row) => make("tr", {}, ...row.map(cell))));
    count.textContent = `${SHOWN.count(found.length)} rows`;
    more.hidden = found.length <= state.shown;
  };
  const cell = (value, column) => {
    const { kind } = columns[column];
    if (kind === "text" || kind === "choice") return make("td", { dir: "auto", className: kind }, value);
    return make("td", { className: "number" }, value === null ? "—" : SHOWN[kind](value));
  };
  const change = (changes) => draw(Object.assign(state, { shown: PAGE }, changes));

  const filters = columns.flatMap(({ kind, label }, column) => {
    if (kind !== "choice") return [];
    const values = [...new Set(rows.map((row) => row[column]))];
    if (values.length < 2) return [];
    return select(label, [`${label}: all`, ...values], (index) => {
      index ? state.chosen.set(column, values[index - 1]) : state.chosen.delete(column);
      change({});
    });
  });
  const search = make("input", { type: "search", placeholder: "Search the texts", ariaLabel: "Search the texts" });
  search.addEventListener("input", () => change({ search: search.value.toLowerCase() }));
  const save = make("button", { type: "button" }, "CSV");
  save.addEventListener("click", () => download(name, csv([columns.map(({ label }) => label), ...matching()])));
  more.addEventListener("click", () => draw((state.shown += PAGE)));

  const head = columns.map(({ label, kind }) =>
    make("th", { className: kind === "text" || kind === "choice" ? "" : "number" }, label),
  );
  heads(head, (column, ascending, numeric) =>
    change({ rows: sorted(state.rows, (row) => row[column], ascending, numeric) }),
  );
  const searchable = columns.some(({ kind }) => kind === "text") ? [search] : [];
  holder.append(
    make("div", { className: "controls" }, ...searchable, ...filters, save, count),
    make("div", { className: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), body)),
    more,
  );
  draw();
}

document.querySelectorAll(".listing").forEach(listing);

// What changes from one run to another, both chosen by the reader.
function flips(holder) {
  const { runs, labels, headings, counts, examples } = payload(holder);
  const chosen = [0, 1];
  const summary = make("p", { className: "reading" });
  const body = make("tbody");
  const heading = (text) => make("th", {}, text);
  const names = [heading(""), heading("")];

  const draw = () => {
    const [a, b] = chosen;
    names.forEach((head, side) => (head.textContent = runs[chosen[side]]));
    const pair = counts[a < b ? `${a}-${b}` : `${b}-${a}`];
    const [onlyA, onlyB] = a < b ? [pair?.only_a, pair?.only_b] : [pair?.only_b, pair?.only_a];
    summary.textContent = pair
      ? `${SHOWN.count(onlyA)} examples are right only in ${runs[a]}, ${SHOWN.count(onlyB)} only in ${runs[b]}; ` +
        `${SHOWN.count(pair.both_right)} in both; ${SHOWN.count(pair.same_mistake)} have the same mistake in both and ` +
        `${SHOWN.count(pair.other_mistake)} different ones.`
      : "Choose two different runs.";
    const differing = examples.filter(({ gold, predicted }) => (predicted[a] === gold) !== (predicted[b] === gold));
    body.replaceChildren(
      ...differing.slice(0, 2 * PAGE).map(({ texts, gold, predicted }) =>
        make(
          "tr",
          {},
          ...texts.map((text) => make("td", { dir: "auto", className: "text" }, text)),
          make("td", { className: "choice" }, labels[gold]),
          ...chosen.map((run) =>
            make("td", { className: predicted[run] === gold ? "choice right" : "choice wrong" }, labels[predicted[run]]),
          ),
        ),
      ),
    );
  };
  const choosers = chosen.map((start, side) => {
    const element = select(side ? "to" : "from", runs, (run) => {
      chosen[side] = run;
      draw();
    });
    element.value = start;
    return element;
  });
  const head = make("tr", {}, ...headings.map(heading), heading("Gold"), ...names);
  holder.append(
    make("div", { className: "controls" }, choosers[0], " against ", choosers[1]),
    summary,
    make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), body)),
  );
  draw();
}

document.querySelectorAll(".flips").forEach(flips);
