"use strict";
const root = document.documentElement;
const touch = matchMedia("(pointer: coarse)").matches;
const system = matchMedia("(prefers-color-scheme: dark)");
const remembered = { get: () => { try { return localStorage.getItem("one-look-theme"); } catch { return null; } },
  set: (theme) => { try { localStorage.setItem("one-look-theme", theme); } catch { /* storage is blocked for this file */ } } };
const figures = JSON.parse(document.getElementById("figures").textContent);
const board = JSON.parse(document.getElementById("rows").textContent);
const drawn = new Set();

function template() {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { linecolor: colour("--line"), tickcolor: colour("--line"), tickfont: { color: colour("--soft") } };
  return { layout: {
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif", size: 12, color: colour("--ink") },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    updatemenudefaults: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    xaxis: axis, yaxis: axis, dragmode: touch ? false : "zoom", // on touch screens a drag scrolls the page
  } };
}

function draw(place) {
  const figure = figures[place.dataset.figure];
  for (const trace of figure.data) { // hover texts are stored once per trial
    if (trace.customdata && trace.hovertext === undefined && trace.type !== "parcoords" && trace.hovertemplate.includes("%{hovertext}")) {
      trace.hovertext = trace.customdata.map((id) => board.hover[id] ?? id);
    }
  }
  const layout = { ...figure.layout, template: template(), autosize: true };
  const config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    displayModeBar: touch ? false : "hover", toImageButtonOptions: { format: "png", scale: 2, filename: place.dataset.figure }, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  Plotly.react(place, figure.data, layout, config);
  if (!drawn.has(place) && figure.data[0].type === "parcoords") place.on("plotly_restyle", () => listKept(place));
  drawn.add(place);
}

// List the trials inside the ranges that were dragged on the axes of the parallel coordinates.
function listKept(place) {
  const { dimensions, ids } = place.data[0];
  const limits = dimensions.filter((d) => d.constraintrange)
    .map((d) => ({ values: place._fullData[0].dimensions[dimensions.indexOf(d)].values,
      ranges: Array.isArray(d.constraintrange[0]) ? d.constraintrange : [d.constraintrange] }));
  const passes = (i) => limits.every(({ values, ranges }) => ranges.some(([low, high]) => low <= values[i] && values[i] <= high));
  const kept = ids.filter((_, i) => passes(i));
  const names = kept.slice(0, 24).join(", ") + (kept.length > 24 ? " …" : "");
  document.getElementById("kept").textContent = limits.length ? `${kept.length} of ${ids.length} trials: ${names}` : "";
}

function show(theme) {
  root.dataset.theme = theme;
  drawn.forEach(draw);
}

show(remembered.get() ?? (system.matches ? "dark" : "light"));
system.addEventListener("change", () => remembered.get() ?? show(system.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => {
  const theme = root.dataset.theme === "dark" ? "light" : "dark";
  remembered.set(theme);
  show(theme);
});

for (const { id, dataset } of document.querySelectorAll("main > section")) {
  document.querySelector("nav").append(Object.assign(document.createElement("a"), { href: `#${id}`, textContent: dataset.nav }));
}

const places = [...document.querySelectorAll("[data-figure]")];
const undrawn = () => places.filter((place) => !drawn.has(place));
const drawNext = () => { const place = undrawn()[0]; if (place) { draw(place); setTimeout(drawNext); } }; // the page stays responsive
setTimeout(drawNext);
addEventListener("beforeprint", () => undrawn().forEach(draw));

if (board.rows.length) {
  const number = (digits) => (cell) => {
    const value = cell.getValue();
    if (value === null) return "";
    return digits === "g" ? Number(value.toPrecision(4)).toString() : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };
  const filters = {
    text: { headerFilter: "input", headerFilterPlaceholder: "contains" },
    choice: { headerFilter: "list", headerFilterParams: { valuesLookup: true, clearable: true }, headerFilterPlaceholder: "any" },
    high: { headerFilter: "number", headerFilterFunc: ">=", headerFilterPlaceholder: "at least" },
    low: { headerFilter: "number", headerFilterFunc: "<=", headerFilterPlaceholder: "at most" },
  };
  const narrow = innerWidth < 600;
  const columns = board.columns.map(({ title, kind, digits }, i) => ({
    title, field: String(i), headerTooltip: title, frozen: i === 0 && !narrow, ...filters[kind],
    ...(kind === "high" || kind === "low" ? { sorter: "number", hozAlign: "right", formatter: number(digits), sorterParams: { alignEmptyValues: "bottom" }, headerSortStartingDir: kind === "high" ? "desc" : "asc" } : { sorter: "string" }),
    minWidth: kind === "text" || kind === "choice" ? 78 : 88, maxWidth: 320,
  }));
  const table = new Tabulator("#table", {
    data: board.rows.map((row, id) => ({ id, ...row })), columns, layout: "fitData",
    height: Math.min(90 + 31 * board.rows.length, 0.75 * innerHeight, 620),
    placeholder: "No trial passes these filters.",
    rowFormatter: (row) => row.getElement().classList.toggle("best", row.getData()[0] === board.best),
  });
  document.getElementById("csv").addEventListener("click", () => table.download("csv", "trials.csv"));
  table.on("dataFiltered", (filters, rows) => {
    document.getElementById("shown").textContent = filters.length ? `${rows.length} of ${board.rows.length} trials shown` : "";
  });
}
