"use strict";
// Table, filter, selection and theme. Works before and without the figures.

const page = {
  data: JSON.parse(document.getElementById("data").textContent),
  hidden: new Set(), // entries the filter took out
  picked: new Set(), // entries brought forward by a click
  hover: null, // the entry under the pointer
  listeners: [], // told of every change
};
document.documentElement.classList.add("scripted");

page.all = (selector, root = document) => [...root.querySelectorAll(selector)];
page.changed = (what) => page.listeners.forEach((tell) => tell(what));

// --- marks: the same colour, dash and symbol for an entry everywhere -----------------------------

const COLOURS = 8;
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "x"];

{
  let next = 0;
  page.marks = page.data.entries.map((entry) => {
    if (!entry.drawn) return null;
    if (entry.control) return { colour: "--mute", dash: "dot", symbol: "circle-open" };
    const number = next++;
    const round = Math.floor(number / COLOURS);
    return {
      colour: `--c${number % COLOURS}`,
      dash: DASHES[round % DASHES.length],
      symbol: SYMBOLS[round % SYMBOLS.length],
    };
  });
}

const SHAPES = {
  circle: "<circle cx='11' cy='5' r='3.4'/>",
  "circle-open": "<circle cx='11' cy='5' r='3' fill='var(--paper)'/>",
  square: "<rect x='8' y='2' width='6' height='6'/>",
  diamond: "<path d='M11 1l4 4-4 4-4-4z'/>",
  "triangle-up": "<path d='M11 1l4 7.4h-8z'/>",
  cross: "<path d='M9.6 1.4h2.8v2.2h2.2v2.8h-2.2v2.2H9.6V6.4H7.4V3.6h2.2z'/>",
  star: "<path d='M11 .8l1.2 2.9 3.1.2-2.4 2 .8 3-2.7-1.6-2.7 1.6.8-3-2.4-2 3.1-.2z'/>",
  hexagon: "<path d='M8 3.2l3-1.8 3 1.8v3.6l-3 1.8-3-1.8z'/>",
  x: "<path d='M8.2 2.2l2.8 2.8 2.8-2.8M8.2 7.8L11 5l2.8 2.8' fill='none'/>",
};
const STROKES = { solid: "", dash: "5 3", dot: "1.5 3", dashdot: "5 2 1.5 2", longdash: "8 3" };

for (const swatch of page.all(".swatch")) {
  const mark = page.marks[Number(swatch.dataset.e)];
  if (!mark) continue;
  swatch.style.color = `var(${mark.colour})`;
  swatch.innerHTML =
    `<svg viewBox='0 0 22 10' width='22' height='10' aria-hidden='true' fill='currentColor' ` +
    `stroke='currentColor'><path d='M0 5h22' stroke-width='1.6' ` +
    `stroke-dasharray='${STROKES[mark.dash]}'/>${SHAPES[mark.symbol]}</svg>`;
}

// --- sorting -------------------------------------------------------------------------------------

const scores = document.getElementById("entries");

function key(row, column, textual) {
  const cell = row.querySelector(`[data-c="${column}"]`);
  if (!cell) return null;
  if (textual) return cell.textContent.toLowerCase();
  return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
}

function sortBy(heading) {
  const column = heading.dataset.c;
  const textual = column === "0";
  const before = heading.getAttribute("aria-sort");
  // the first click shows the largest number, or the first name
  const first = textual ? "ascending" : "descending";
  const second = textual ? "descending" : "ascending";
  const order = before === first ? second : first;
  for (const other of page.all("th[aria-sort]", scores)) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  for (const body of scores.tBodies) {
    const rows = page.all("tr[data-e]", body).map((row) => [key(row, column, textual), row]);
    rows.sort(([a, one], [b, other]) => {
      if (a === null || b === null) return (a === null) - (b === null); // no value: last
      if (a === b) return one.dataset.e - other.dataset.e;
      return sign * (textual ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    });
    body.append(...rows.map(([, row]) => row));
  }
}

for (const heading of page.all("th[data-c][aria-sort]", scores)) {
  heading.querySelector("button").addEventListener("click", () => sortBy(heading));
}

// a table that fits scrolls with the page, its head below the bar; a wider one scrolls by itself
function fit() {
  for (const box of page.all(".scroll")) {
    box.classList.remove("fits");
    box.classList.toggle("fits", box.scrollWidth <= box.clientWidth);
  }
}
fit();
addEventListener("resize", fit);

for (const box of page.all("[data-group]")) {
  const columns = page.all(`#entries [data-g="${box.dataset.group}"]`);
  if (!columns.length) box.parentElement.remove();
  const show = () => {
    columns.forEach((cell) => (cell.hidden = !box.checked));
    fit();
  };
  box.addEventListener("change", show);
  show();
}

// --- filter and selection ------------------------------------------------------------------------

const rows = page.all("[data-e]").filter((one) => !one.classList.contains("swatch"));
const words = page.data.entries.map((entry) => entry.words.toLowerCase());
const clear = document.getElementById("clear");

function filter(text) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  page.hidden = new Set();
  words.forEach((own, number) => {
    if (!wanted.every((word) => own.includes(word))) page.hidden.add(number);
  });
  for (const row of rows) row.classList.toggle("out", page.hidden.has(Number(row.dataset.e)));
  const left = words.length - page.hidden.size;
  document.getElementById("count").textContent = wanted.length ? `${left} of ${words.length}` : "";
  page.changed("filter");
}

let typing = 0;
document.getElementById("filter").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => filter(event.target.value), 80);
});

function pick(number) {
  if (number === null) page.picked.clear();
  else if (!page.picked.delete(number)) page.picked.add(number);
  for (const row of rows) {
    const own = page.picked.has(Number(row.dataset.e));
    row.classList.toggle("picked", own);
    if (row.tagName === "BUTTON") row.setAttribute("aria-pressed", own);
  }
  clear.hidden = !page.picked.size;
  page.changed("pick");
}

for (const row of rows) {
  const number = Number(row.dataset.e);
  if (row.tagName === "BUTTON") {
    row.addEventListener("click", () => pick(number));
    row.addEventListener("mouseenter", () => ((page.hover = number), page.changed("hover")));
    row.addEventListener("mouseleave", () => ((page.hover = null), page.changed("hover")));
  } else {
    row.querySelector(".label").addEventListener("click", () => pick(number));
  }
}
clear.addEventListener("click", () => pick(null));

// --- theme and copying ---------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");

function setTheme(name) {
  document.documentElement.style.colorScheme = name || "light dark";
  page.changed("theme");
}

document.getElementById("theme").addEventListener("click", () => {
  const now = document.documentElement.style.colorScheme;
  const isDark = now === "dark" || (now !== "light" && dark.matches);
  setTheme(isDark ? "light" : "dark");
});
dark.addEventListener("change", () => page.changed("theme"));

for (const button of page.all("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(text); // no clipboard on some file pages
    }
  });
}
