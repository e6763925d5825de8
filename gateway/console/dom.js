// Elements, and lists that keep theirs: nothing here ever parses markup, so no text can become any.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value" || name === "checked" || name === "disabled" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, String(value));
  element.append(...children.flat(Infinity));
  return element;
}

// Set text without touching the document when nothing has changed.
export function text(node, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

export function mark(node, name) {
  if (node.className !== name) node.className = name;
  return node;
}

// An actor's name in a narrow place: of several workers, the end of the worker's id tells which.
export function ofWorker(name) {
  const found = /^worker\/([^/]+)\/(.+)$/.exec(name);
  return found ? `@${found[1].slice(-6)} ${found[2]}` : name;
}

// Show `items` in `parent`, one element each, kept by key: focus and selection survive a refresh.
export function keyed(parent, items, key, make, update) {
  const old = parent.keyedElements ?? new Map();
  const now = new Map();
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = old.get(name);
    if (!element) element = make(item);
    update(element, item);
    now.set(name, element);
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
  for (const [name, element] of old) if (now.get(name) !== element) element.remove();
  parent.keyedElements = now;
}

// A table whose rows are kept by key. Columns: {name, class, cell(td, item)}; cell fills a td and may be called again.
export function table(columns, { caption, empty = "Nothing here." } = {}) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.class }, column.name)));
  const nothing = h("p", { class: "empty" }, empty);
  const element = h("div", { class: "scroll" }, h("table", {}, caption ? h("caption", {}, caption) : null, h("thead", {}, head), body), nothing);
  element.show = (items, key) => {
    nothing.hidden = items.length > 0;
    keyed(body, items, key,
      () => h("tr", {}, columns.map((column) => h("td", { class: column.class }))),
      (row, item) => columns.forEach((column, n) => column.cell(row.children[n], item)));
  };
  element.show([], () => "");
  return element;
}

// A cell that holds one link, updated in place.
export function link(cell, href, label) {
  let anchor = cell.firstElementChild;
  if (!anchor) cell.append((anchor = h("a")));
  if (anchor.getAttribute("href") !== href) anchor.setAttribute("href", href);
  text(anchor, label);
  anchor.title = label ?? ""; // a long one is cut
}

export function state(cell, name, title) {
  let pill = cell.firstElementChild;
  if (!pill) cell.append((pill = h("span")));
  mark(pill, `state ${name}`);
  text(pill, name.replace("_", " "));
  if (title) pill.title = title; else pill.removeAttribute("title");
}

export const count = (n) => (n ?? 0).toLocaleString("en");

export function duration(seconds) {
  const s = Math.max(seconds, 0);
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} m`;
  return `${Math.floor(whole / 86400)} d ${String(Math.floor((whole % 86400) / 3600)).padStart(2, "0")} h`;
}

export const time = (at) => (at ? at.slice(0, 19).replace("T", " ") : "");
export const clock = (at) => (at ? at.slice(11, 23) : "");

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value instanceof Node ? value : String(value))]));
}

// A line of the last values, scaled to their largest.
export function sparkline(values, { width = 120, height = 24, label = "" } = {}) {
  const most = Math.max(...values, 1e-9);
  const step = values.length > 1 ? width / (values.length - 1) : width;
  const points = values.map((value, n) => `${(n * step).toFixed(1)},${(height - 1 - (value / most) * (height - 3)).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    svg("polygon", { class: "area", points: `0,${height} ${points.join(" ")} ${((values.length - 1) * step).toFixed(1)},${height}` }),
    svg("polyline", { points: points.join(" ") }));
}

// What was seen of many things, the last `length` looks of each; things not seen in a look are forgotten.
export class History {
  constructor(length = 60) { this.length = length; this.series = new Map(); }
  add(entries) {
    const next = new Map();
    for (const [name, value] of entries) {
      const values = this.series.get(name) ?? [];
      values.push(value);
      if (values.length > this.length) values.shift();
      next.set(name, values);
    }
    this.series = next;
  }
  of(name) { return this.series.get(name) ?? []; }
}

const dialog = () => document.getElementById("dialog");

// Ask before something is done; true when the operator says so.
export function confirmed(question, act, detail = "") {
  return new Promise((answer) => {
    const box = dialog();
    const done = (yes) => { box.close(); answer(yes); };
    const go = h("button", { type: "button", class: "danger", onclick: () => done(true) }, act);
    box.replaceChildren(h("h2", {}, question), detail ? h("p", {}, detail) : "",
      h("p", { class: "buttons" }, h("button", { type: "button", onclick: () => done(false) }, "Leave it"), go));
    box.oncancel = () => answer(false);
    box.showModal();
    go.focus();
  });
}

export function tell(title, ...content) {
  const box = dialog();
  box.oncancel = null;
  box.replaceChildren(h("h2", {}, title), ...content,
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: () => box.close() }, "Close")));
  box.showModal();
}
