"use strict";

const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const NARROW = 560; // pixels
const PAPER = 680; // pixels: what A4 and letter hold between their margins
const CELLS = 6; // more cells in a row have no room for their numbers where it is narrow
const drawn = new Set();

// Plots take the page's colours: they are drawn on nothing, with its ink and its lines.
function theme(layout, paper) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => (paper ? { "--ink": "#1d2129", "--line": "#dfe3e8" }[name] : style.getPropertyValue(name));
  const changes = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": colour("--ink") };
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    for (const line of ["gridcolor", "linecolor", "zerolinecolor"]) changes[`${axis}.${line}`] = colour("--line");
  }
  return changes;
}

function paint(canvas, paper, changes = {}) {
  const colours = theme(canvas.layout, paper);
  // Plotly takes cells for opaque and would write dark on dark.
  const maps = canvas.data.flatMap(({ type }, index) => (type === "heatmap" ? [index] : []));
  if (maps.length) Plotly.restyle(canvas, { "textfont.color": colours["font.color"] }, maps);
  Plotly.relayout(canvas, { ...colours, ...changes });
}

// Names of runs take two lines where it is narrow: the strategy, then its encoder or seed.
function brokenLabels({ data, layout }) {
  const rows = Object.entries(layout).filter(([key, { type }]) => /^yaxis/.test(key) && type === "category");
  return Object.fromEntries(
    rows.flatMap(([key]) => {
      const names = [...new Set(data.filter(({ yaxis = "y" }) => yaxis.replace("y", "yaxis") === key).flatMap(({ y }) => y))];
      const broken = names.map((name) => String(name).replace(/ (?:· |(?=on ))/, "<br>"));
      return [
        [`${key}.tickvals`, names],
        [`${key}.ticktext`, broken],
      ];
    }),
  );
}

function draw(holder) {
  if (drawn.has(holder)) return;
  drawn.add(holder);
  const { plot, csv } = payload(holder);
  const { name } = holder.dataset;
  const { updatemenus = [], ...layout } = plot.layout;
  const canvas = holder.querySelector(".canvas");
  // The plot's own menus become the page's, which are larger and speak to keyboards and screen readers.
  const choosers = updatemenus.map(({ buttons }) =>
    select("Show", buttons.map(({ label }) => decode(label)), (index) => Plotly.update(canvas, ...buttons[index].args)),
  );
  const save = make("button", { type: "button" }, "CSV");
  save.addEventListener("click", () => download(name, csv));
  holder.querySelector(".controls").append(...choosers, save);
  const narrow = canvas.clientWidth < NARROW;
  if (narrow && layout.showlegend !== false) {
    // A legend has one entry a line here; the plot keeps its height below it.
    const entries = plot.data.filter(({ showlegend, visible }) => showlegend !== false && visible !== false).length;
    layout.height += entries > 1 ? 19 * entries : 0;
    canvas.style.height = `${layout.height}px`;
  }
  const maps = plot.data.filter(({ type }) => type === "heatmap");
  if (narrow) maps.filter(({ x }) => x.length > CELLS).forEach((map) => delete map.texttemplate);
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  const changes = narrow ? { ...brokenLabels(plot), ...layout.meta?.narrow } : {};
  Plotly.newPlot(canvas, plot.data, layout, CONFIG).then(() => paint(canvas, false, changes));
}

// Labels are escaped for plotly, which reads markup; a menu of the page does not.
function decode(text) {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

const fit = (paper) =>
  drawn.forEach((holder) => {
    const canvas = holder.querySelector(".canvas");
    paint(canvas, paper, { width: paper ? PAPER : null, autosize: !paper });
  });

const plots = document.querySelectorAll(".plot");
const watcher = new IntersectionObserver(
  (entries) => entries.filter(({ isIntersecting }) => isIntersecting).forEach(({ target }) => draw(target)),
  { rootMargin: "600px" },
);
plots.forEach((holder) => watcher.observe(holder));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => fit());
addEventListener("beforeprint", () => (plots.forEach(draw), fit(true)));
addEventListener("afterprint", () => fit());
