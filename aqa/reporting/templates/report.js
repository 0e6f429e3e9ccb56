// Rows of models, columns of patterns and sections of targets are shown as chosen; figures show all of them.
const choose = document.getElementById("choose");
choose.hidden = !choose.querySelector("input");
choose.addEventListener("change", show);
document.getElementById("all").addEventListener("click", () => check(() => true));
function check(isChosen, kind = "") {
  const within = kind ? `[data-choose="${kind}"] ` : "";
  choose.querySelectorAll(`${within}input`).forEach((box) => (box.checked = isChosen(box.value)));
  show();
}
function left(kind) {
  return [...choose.querySelectorAll(`[data-choose="${kind}"] input:not(:checked)`)].map((box) => box.value);
}
function show() {
  const [models, patterns, targets] = ["model", "pattern", "target"].map(left);
  for (const row of document.querySelectorAll("tr[data-marked]")) {
    const name = row.dataset.marked;
    row.hidden = models.some((one) => name === one || name.startsWith(`${one} - `) || name.endsWith(` - ${one}`));
  }
  document.querySelectorAll("table[data-columns]").forEach((table) => showColumns(table, patterns));
  document.querySelectorAll("[data-target]").forEach((part) => (part.hidden = targets.includes(part.dataset.target)));
  const counts = [[models, "model"], [patterns, "pattern"], [targets, "target"]].filter(([some]) => some.length);
  choose.querySelector("[role=status]").textContent = counts.length
    ? `Not shown in tables: ${counts.map(([some, word]) => `${some.length} ${word}${some.length > 1 ? "s" : ""}`).join(", ")}.`
    : "";
}
function showColumns(table, patterns) {
  const known = [...choose.querySelectorAll('[data-choose="pattern"] input')].map((box) => box.value);
  let hidden = false;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const name = heading.textContent.trim();
    if (known.includes(name)) hidden = patterns.includes(name);
    else if (table.dataset.columns === "each") hidden = false;
    for (const row of table.rows) row.cells[column].hidden = hidden && column > 0;
  });
}
// Two models side by side, target by target.
const comparison = document.getElementById("compare");
if (comparison) {
  comparison.hidden = false;
  const sections = JSON.parse(comparison.dataset.compared);
  const [first, second] = ["first", "second"].map((id) => document.getElementById(id));
  const body = comparison.querySelector("tbody");
  const columns = [...comparison.querySelectorAll("thead th")].slice(1).map((heading) => heading.textContent);
  const compared = () => {
    body.replaceChildren(...sections.map((section) => line(section, first.value, second.value, columns)));
    show();
  };
  [first, second].forEach((select) => select.addEventListener("change", compared));
  document.getElementById("only").addEventListener("click", () =>
    check((name) => [first.value, second.value].includes(name), "model"));
  compared();
}
function line(section, one, other, columns) {
  const row = element("tr", "", element("th", section.title));
  row.dataset.target = section.title;
  const [i, j] = [one, other].map((name) => section.models.indexOf(name));
  const pair = section.pairs.find(([a, b]) => (a === i && b === j) || (a === j && b === i));
  for (const name of columns) {
    const place = section.columns.indexOf(name);
    const found = pair && place >= 0 ? pair[2][place] : null;
    const cell = element("td", found ? "" : "-");
    if (found) {
      const [value, low, high] = pair[0] === i ? found : [found[0], found[2], found[1]].map((v) => (v === null ? v : -v));
      const apart = low !== null && (low > 0 || high < 0);
      cell.append(element(apart ? "b" : "span", signed(value)));
      cell.append(element("small", low === null ? "" : `[${signed(low)}, ${signed(high)}]`));
    }
    const both = [i, j].map((at) => section.srcc[at]?.[place] ?? null);
    if (both.some((v) => v !== null)) cell.append(element("small", both.map((v) => v?.toFixed(3) ?? "-").join(", ")));
    row.append(cell);
  }
  return row;
}
function signed(value) {
  return value === null ? "undefined" : `${value < 0 ? "" : "+"}${value.toFixed(3)}`;
}
function element(tag, text, ...inner) {
  const made = document.createElement(tag);
  made.append(text, ...inner);
  return made;
}
// The dots of a panel are one stop of the Tab key; arrow keys go from dot to dot in the order of the labels.
const panels = new Map();
for (const dot of document.querySelectorAll("a.dot")) {
  panels.set(dot.parentElement, [...(panels.get(dot.parentElement) ?? []), dot]);
}
for (const dots of panels.values()) {
  const [x, y] = ["x", "y"].map((name) => (dot) => Number.parseFloat(dot.querySelector("use").getAttribute(name)));
  dots.sort((a, b) => x(a) - x(b) || y(b) - y(a));
  dots.forEach((dot, place) => {
    dot.setAttribute("tabindex", place ? "-1" : "0");
    dot.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: place + 1, ArrowUp: place + 1, ArrowLeft: place - 1, ArrowDown: place - 1 };
      const next = dots[{ ...steps, Home: 0, End: dots.length - 1 }[event.key]];
      if (!next) return;
      event.preventDefault();
      dots.forEach((other) => other.setAttribute("tabindex", other === next ? "0" : "-1"));
      next.focus();
    });
  });
}
