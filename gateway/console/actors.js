// The tree of actors, live, and one actor with what can be done about it.

import { get, post, actorPath } from "/console/api.js";
import { h, confirmed, count, duration, facts, keyed, link, mark, ofWorker, state, table, text, time } from "/console/dom.js";

const EVERY_MS = 2000;
const folded = new Set(); // names the operator folded; kept while the console is open

export function tree(main, { live }) {
  const rows = h("div", { role: "tree", class: "tree", "aria-label": "Actors" });
  const legend = h("p", { class: "hint" }, "Arrow keys walk and fold, Enter opens. Big families are a count and their first members.");
  main.append(h("h1", {}, "Tree"), legend, rows);
  let root = null;

  // Flatten what is unfolded: [{actor, depth, more}]
  const lines = () => {
    const found = [];
    const walk = (actor, depth, worker) => { // below a worker's line its prefix goes without saying
      const hidden = actor.children_total - actor.children.length;
      const shown = worker && actor.name.startsWith(worker) ? actor.name.slice(worker.length) : actor.name;
      found.push({ actor, depth, shown, key: actor.name, parent: actor.children_total > 0 });
      if (folded.has(actor.name)) return;
      const inside = actor.kind === "Worker" ? `${actor.name}/` : worker;
      for (const child of actor.children) walk(child, depth + 1, inside);
      if (hidden > 0) found.push({ actor, depth: depth + 1, key: `${actor.name} more`, more: hidden });
    };
    if (root) walk(root, 0, "");
    return found;
  };

  const draw = () => {
    keyed(rows, lines(), (line) => line.key, () => {
      const row = h("div", { role: "treeitem", class: "row", tabindex: "-1" },
        h("span", { class: "fold", "aria-hidden": "true" }), h("a", { class: "name", tabindex: "-1" }), h("span", { class: "count" }),
        h("span"), h("span", { class: "mail" }), h("span", { class: "restarts" }), h("span", { class: "since" }), h("span", { class: "error" }));
      row.firstElementChild.addEventListener("click", () => { toggle(row.dataset.name); row.focus(); });
      return row;
    }, (row, line) => {
      const [fold, name, total, pill, mail, restarts, since, error] = row.children;
      const { actor } = line;
      row.dataset.name = actor.name;
      row.dataset.more = line.more ? "yes" : "";
      row.style.setProperty("--depth", String(line.depth));
      row.setAttribute("aria-level", String(line.depth + 1));
      if (line.more) {
        text(name, `and ${count(line.more)} more`);
        name.removeAttribute("href");
        for (const cell of [fold, total, mail, restarts, since, error]) text(cell, "");
        mark(pill, "");
        text(pill, "");
        return;
      }
      text(fold, line.parent ? (folded.has(actor.name) ? "▸" : "▾") : "");
      if (line.parent) row.setAttribute("aria-expanded", String(!folded.has(actor.name)));
      else row.removeAttribute("aria-expanded");
      text(name, line.shown);
      name.setAttribute("href", `#/actor/${actorPath(actor.name)}`);
      text(total, actor.children_total ? count(actor.children_total) : "");
      mark(pill, `state ${actor.state}`);
      text(pill, actor.state.replace("_", " "));
      text(mail, actor.mailbox ? `${count(actor.mailbox)} waiting` : "");
      text(restarts, actor.restarts ? `${count(actor.restarts)} restarts` : "");
      text(since, actor.uptime_s ? duration(actor.uptime_s) : "");
      mark(error, actor.kind === "Worker" ? "since" : "error");
      text(error, actor.kind === "Worker" ? registered(actor.detail) : actor.last_error);
    });
    if (rows.firstElementChild && !rows.querySelector('[tabindex="0"]')) rows.firstElementChild.tabIndex = 0;
  };

  const toggle = (name) => {
    if (folded.has(name)) folded.delete(name);
    else folded.add(name);
    draw();
  };

  const focus = (row) => {
    if (!row) return;
    for (const other of rows.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    row.tabIndex = 0;
    row.focus();
  };

  rows.addEventListener("keydown", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    const expanded = row.getAttribute("aria-expanded");
    const level = Number(row.getAttribute("aria-level"));
    if (event.key === "ArrowDown") focus(row.nextElementSibling);
    else if (event.key === "ArrowUp") focus(row.previousElementSibling);
    else if (event.key === "Home") focus(rows.firstElementChild);
    else if (event.key === "End") focus(rows.lastElementChild);
    else if (event.key === "ArrowRight") { if (expanded === "false") toggle(row.dataset.name); else focus(row.nextElementSibling); }
    else if (event.key === "ArrowLeft") {
      if (expanded === "true") toggle(row.dataset.name);
      else {
        let above = row.previousElementSibling;
        while (above && Number(above.getAttribute("aria-level")) >= level) above = above.previousElementSibling;
        focus(above);
      }
    } else if (event.key === "Enter" && !row.dataset.more) location.hash = `#/actor/${actorPath(row.dataset.name)}`;
    else return;
    event.preventDefault();
  });

  live.every(EVERY_MS, async () => { root = await get("/v1/actors"); draw(); });
}

// What the database knows of a worker, and how many messages are open on it.
function registered(worker) {
  const open = worker.open === null || worker.open === undefined ? "" : `, ${count(worker.open)} open`;
  return `pid ${worker.pid} on ${worker.host}, ${count(worker.shards)} shards${open}`;
}

const ORDERS = [
  ["suspend", "Suspend", (n) => `Suspend ${n}?`, "It serves urgent mail only; the rest waits until it is resumed."],
  ["resume", "Resume", null, ""],
  ["restart", "Restart", (n) => `Restart ${n}?`, "It is stopped and started again; its siblings go on. No message is lost."],
  ["stop", "Stop", (n) => `Stop ${n}?`, "It stays down until it is restarted."],
];

export function actor(main, { live, attempt, argument: name }) {
  const path = `/v1/actors/${actorPath(name)}`;
  const head = h("div", { class: "cards" });
  const detail = h("section");
  const children = table([
    { name: "Child", cell: (td, c) => link(td, `#/actor/${actorPath(c.name)}`, name.startsWith("worker/") ? c.name.replace(/^worker\/[^/]+\//, "") : ofWorker(c.name)) },
    { name: "Kind", cell: (td, c) => text(td, c.kind) },
    { name: "State", cell: (td, c) => state(td, c.state) },
    { name: "Mailbox", class: "number", cell: (td, c) => text(td, count(c.mailbox)) },
    { name: "Restarts", class: "number", cell: (td, c) => text(td, count(c.restarts)) },
    { name: "Messages in", class: "number", cell: (td, c) => text(td, count(c.messages_in)) },
    { name: "Last error", class: "wide", cell: (td, c) => text(td, c.last_error) },
  ], { caption: "Children", empty: "No children." });
  const more = h("p", { class: "hint" });
  const buttons = h("p", { class: "buttons" });
  for (const [order, label, question, meaning] of ORDERS) {
    buttons.append(h("button", { type: "button", class: order === "stop" ? "danger" : "", title: meaning, "data-order": order, onclick: async () => {
      if (question && !(await confirmed(question(name), label, meaning))) return;
      const seen = await attempt(() => post(`${path}/${order}`));
      if (seen) draw(seen);
    } }, label));
  }
  const level = h("select", { "aria-label": "Log level", onchange: () => attempt(async () => {
    await post(`${path}/log-level`, { level: level.value === "default" ? null : level.value });
  }) }, ["default", "debug", "info", "warning", "error"].map((l) => h("option", { value: l }, l)));
  buttons.append(h("label", { class: "inline" }, "log level ", level));
  main.append(h("nav", { class: "crumbs", "aria-label": "Back" }, h("a", { href: "#/tree" }, "Tree")), h("h1", {}, name), buttons, head, children, more, detail);

  let last = "";
  const draw = (seen) => {
    const pill = h("span");
    state(pill, seen.state);
    head.replaceChildren(facts([["state", pill], ["kind", seen.kind], ["since", time(seen.since)], ["up", seen.uptime_s ? duration(seen.uptime_s) : ""],
      ["restarts", count(seen.restarts)], ["mailbox", count(seen.mailbox)], ["messages in", count(seen.messages_in)], ["last error", seen.last_error]]));
    children.hidden = !seen.children_total;
    children.show(seen.children, (c) => c.name);
    const hidden = seen.children_total - seen.children.length;
    text(more, hidden > 0 ? `and ${count(hidden)} more` : "");
    const written = JSON.stringify(seen.detail);
    if (written !== last) { // a table that is being read is not redrawn without need
      last = written;
      detail.replaceChildren(...details(seen.detail));
    }
  };
  live.every(EVERY_MS, async () => draw(await get(path)));
  live.every(10000, async () => {
    const seen = await get("/v1/overview", { limit: 1 });
    if (document.activeElement !== level) level.value = seen.log_levels[name] ?? "default";
  });
}

// What an actor says of itself: plain values as facts, lists of entries as tables.
function details(found) {
  const plain = [];
  const tables = [];
  for (const [name, value] of Object.entries(found)) {
    if (Array.isArray(value) && value.length && typeof value[0] === "object") tables.push([name, value]);
    else if (value !== null && typeof value === "object" && !Array.isArray(value)) plain.push([name, Object.entries(value).map(([k, v]) => `${k} ${flat(v)}`).join(", ")]);
    else plain.push([name.replaceAll("_", " "), flat(value)]);
  }
  const shown = plain.length ? [h("h2", {}, "What it says of itself"), facts(plain)] : [];
  for (const [name, entries] of tables) {
    const columns = [...new Set(entries.flatMap((entry) => Object.keys(entry)))];
    const made = table(columns.map((column) => ({ name: column.replaceAll("_", " "), cell: (td, entry) => text(td, flat(entry[column])) })), { caption: name.replaceAll("_", " ") });
    made.show(entries.slice(-50).reverse().map((entry, n) => ({ ...entry, n })), (entry) => entry.n);
    shown.push(made);
  }
  return shown;
}

const flat = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
