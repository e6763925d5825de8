// Carriers: how each is, worst first; one carrier with its binds and orders to it.

import { get, post, actorPath, name } from "/console/api.js";
import { h, History, confirmed, count, duration, facts, link, sparkline, state, table, text, time } from "/console/dom.js";

const EVERY_MS = 2000;
const SEARCH_EVERY_MS = 5000;
const PAGE = 100;

export function carriers(main, { live, health }) {
  const filter = h("input", { type: "search", placeholder: "name, kind, channel or state", "aria-label": "Filter carriers" });
  const counted = h("span", { class: "hint", role: "status" });
  const rates = new History(60);
  const list = table([
    { name: "Carrier", cell: (td, c) => link(td, `#/carrier/${name(c.name)}`, c.name) },
    { name: "State", cell: (td, c) => state(td, c.state, c.reason) },
    { name: "Kind", cell: (td, c) => text(td, c.kind) },
    { name: "Channel", cell: (td, c) => text(td, c.channel) },
    { name: "Breaker", cell: (td, c) => text(td, c.breaker.replace("_", " ")) },
    { name: "Binds", class: "number", cell: (td, c) => text(td, c.binds.length ? `${c.binds.filter((b) => b.state === "bound").length} / ${c.binds.length}` : "") },
    { name: "Queue", class: "number", cell: (td, c) => text(td, c.queue ? `${count(c.queue)} (${duration(c.queue_age_s)})` : "0") },
    { name: "In flight", class: "number", cell: (td, c) => text(td, count(c.in_flight)) },
    { name: "Per second", class: "number", cell: (td, c) => text(td, c.rate_per_s.toFixed(1)) },
    { name: "", cell: (td, c) => td.replaceChildren(sparkline(rates.of(c.name), { label: `rate of ${c.name}` })) },
    { name: "Sent", class: "number", cell: (td, c) => text(td, count(c.sent)) },
    { name: "Failed", class: "number", cell: (td, c) => text(td, count(c.failed)) },
    { name: "Why", class: "wide", cell: (td, c) => text(td, c.reason) },
  ], { empty: "No carrier fits." });
  main.append(h("h1", {}, "Carriers"), h("p", { class: "tools" }, filter, " ", counted), list);
  let looked = 0;
  const look = async () => {
    const wanted = filter.value.trim().toLowerCase();
    let found;
    let total;
    if (wanted) {
      // All of them are asked for only while somebody looks for one.
      if (performance.now() - looked < SEARCH_EVERY_MS && !look.now) return;
      looked = performance.now();
      const all = (await get("/v1/carriers")).data;
      found = all.filter((c) => [c.name, c.kind, c.channel, c.state].some((field) => field.toLowerCase().includes(wanted)));
      total = found.length;
      text(counted, `${count(Math.min(total, PAGE))} of ${count(total)} that fit`);
    } else {
      const seen = await get("/v1/overview", { limit: PAGE });
      health(seen);
      found = seen.carriers;
      total = seen.carriers_total;
      text(counted, `${count(found.length)} of ${count(total)}, those that are not well first`);
    }
    look.now = false;
    found = found.slice(0, PAGE);
    rates.add(found.map((c) => [c.name, c.rate_per_s]));
    list.show(found, (c) => c.name);
  };
  filter.addEventListener("input", () => { look.now = true; look().catch(() => {}); });
  live.every(EVERY_MS, look);
}

const ORDERS = [
  ["pause", "Pause", "Nothing more is sent by it until it is resumed; what waits moves to the next carrier."],
  ["drain", "Drain", "What is under way ends and nothing more is sent."],
  ["resume", "Resume", "It sends again; its breaker is closed and a stop after a refused login is lifted."],
];

export function carrier(main, { live, attempt, argument: which }) {
  const path = `/v1/carriers/${name(which)}`;
  const head = h("div", { class: "cards" });
  const lines = h("div", { class: "figures" });
  const history = new History(120);
  const binds = table([
    { name: "Bind", class: "number", cell: (td, b) => text(td, b.n) },
    { name: "Mode", cell: (td, b) => text(td, b.mode) },
    { name: "State", cell: (td, b) => state(td, b.state, b.last_error) },
    { name: "Since", cell: (td, b) => text(td, time(b.since)) },
    { name: "Window", class: "number", cell: (td, b) => text(td, `${count(b.in_flight)} / ${count(b.window_size)}`) },
    { name: "", cell: (td, b) => td.replaceChildren(sparkline(windows.of(b.n), { label: `window of bind ${b.n}` })) },
    { name: "Last error", class: "wide", cell: (td, b) => text(td, b.last_error) },
  ], { caption: "Binds" });
  const windows = new History(60);
  const buttons = h("p", { class: "buttons" }, ORDERS.map(([order, label, meaning]) => h("button", { type: "button", title: meaning, "data-order": order, onclick: async () => {
    if (order !== "resume" && !(await confirmed(`${label} ${which}?`, label, meaning))) return;
    const seen = await attempt(() => post(`${path}/${order}`));
    if (seen) draw(seen);
  } }, label)));
  const actorLink = h("a", {}, "its actor");
  main.append(h("nav", { class: "crumbs", "aria-label": "Back" }, h("a", { href: "#/carriers" }, "Carriers")), h("h1", {}, which), buttons, head, lines, binds, h("p", {}, actorLink));

  const draw = (c) => {
    const pill = h("span");
    state(pill, c.state, c.reason);
    head.replaceChildren(facts([["state", pill], ["why", c.reason], ["since", time(c.since)], ["kind", c.kind], ["channel", c.channel], ["tenant", c.tenant],
      ["breaker", c.breaker.replace("_", " ")], ["queue", `${count(c.queue)}${c.queue ? `, the oldest for ${duration(c.queue_age_s)}` : ""}`],
      ["in flight", count(c.in_flight)], ["sent", count(c.sent)], ["failed", count(c.failed)], ["per second", c.rate_per_s.toFixed(1)]]));
    history.add([["rate", c.rate_per_s], ["queue", c.queue], ["in_flight", c.in_flight]]);
    lines.replaceChildren(...[["rate", "per second"], ["queue", "queue"], ["in_flight", "in flight"]].map(([series, label]) =>
      h("div", { class: "figure" }, h("span", { class: "label" }, label), h("strong", {}, count(Math.round(history.of(series).at(-1) * 10) / 10)),
        h("span", { class: "line" }, sparkline(history.of(series), { width: 240, height: 40, label })))));
    windows.add(c.binds.map((b) => [b.n, b.in_flight]));
    binds.hidden = !c.binds.length;
    binds.show(c.binds, (b) => b.n);
    actorLink.setAttribute("href", `#/actor/${actorPath(c.kind === "smpp" ? `smpp/${which}` : `provider/${which}`)}`);
  };
  live.every(EVERY_MS, async () => draw(await get(path)));
}
