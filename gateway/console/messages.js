// Looking for messages, and one message as a picture of its cascade.

import { get, name } from "/console/api.js";
import { h, clock, count, duration, facts, link, state, table, text, time } from "/console/dom.js";
import { picture, words } from "/console/timeline.js";

const PAGE = 50;
const STATUSES = ["", "open", "accepted", "scheduled", "in_progress", "delivered", "failed", "expired", "cancelled", "unknown"];
const OPEN = new Set(["accepted", "scheduled", "in_progress"]);

export function messages(main, { live, attempt, query }) {
  const field = (label, control) => h("label", {}, h("span", {}, label), control);
  const status = h("select", {}, STATUSES.map((s) => h("option", { value: s }, s.replace("_", " ") || "any status")));
  const channel = h("select", {}, ["", "email", "sms", "push", "whatsapp"].map((c) => h("option", { value: c }, c || "any channel")));
  const reference = h("input", { type: "search", placeholder: "begins with" });
  const after = h("input", { type: "datetime-local", step: "1" });
  const before = h("input", { type: "datetime-local", step: "1" });
  status.value = query.get("status") ?? "";
  channel.value = query.get("channel") ?? "";
  const tenant = query.get("tenant") ?? "";
  const counted = h("p", { class: "counts", role: "status" });
  const list = table([
    { name: "Message", class: "code", cell: (td, m) => link(td, `#/message/${name(m.id)}`, m.id) },
    { name: "Status", cell: (td, m) => state(td, m.status) },
    { name: "Made", cell: (td, m) => text(td, time(m.created_at)) },
    { name: "Took", class: "number", cell: (td, m) => text(td, m.final_at ? duration((Date.parse(m.final_at) - Date.parse(m.created_at)) / 1000) : "") },
    { name: "Cascade", cell: (td, m) => text(td, m.cascade.map((s) => s.channel).join(" → ")) },
    { name: "Tenant", class: "code", cell: (td, m) => link(td, `#/tenant/${name(m.tenant)}`, m.tenant) },
    { name: "Reference", class: "wide", cell: (td, m) => text(td, m.reference) },
  ], { empty: "No message fits." });
  const first = h("button", { type: "button", onclick: () => look(null) }, "Newest");
  const on = h("button", { type: "button", onclick: () => look(next) }, "Older");
  const form = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); look(null); } },
    field("Status", status), field("Channel", channel), field("Reference", reference), field("Made after (UTC)", after), field("before (UTC)", before), h("button", { class: "primary" }, "Look"));
  main.append(h("h1", {}, "Messages"), tenant ? h("p", { class: "hint" }, `of tenant ${tenant}; `, h("a", { href: "#/messages" }, "all tenants")) : "",
    form, counted, list, h("p", { class: "buttons" }, first, on));
  let next = null;
  let cursor = null;

  const instant = (input) => (input.value ? `${input.value.length === 16 ? `${input.value}:00` : input.value}Z` : "");
  const asked = () => ({ tenant, created_after: instant(after), created_before: instant(before) });
  const find = async () => {
    const page = await get("/v1/messages", { ...asked(), status: status.value, channel: channel.value, reference_prefix: reference.value.trim(), limit: PAGE, cursor });
    next = page.next_cursor;
    list.show(page.data, (m) => m.id);
    on.disabled = !next;
    first.disabled = !cursor;
  };
  const look = (from) => { cursor = from; return attempt(async () => { await find(); await counts(); }); };
  const counts = async () => {
    const found = await get("/v1/messages/counts", asked());
    const entries = Object.entries(found.counts ?? found).filter(([, n]) => typeof n === "number");
    counted.replaceChildren(...entries.map(([s, n]) => h("span", {}, h("b", {}, count(n)), ` ${s.replace("_", " ")}`)));
  };
  for (const control of [status, channel]) control.addEventListener("change", () => look(null));
  live.every(3000, async () => { if (!cursor) await find(); });
  live.every(15000, counts);
}

export function message(main, { live, argument: id }) {
  const head = h("div", { class: "cards" });
  const drawn = h("div", { class: "picture" });
  const events = table([
    { name: "At", class: "code", cell: (td, e) => text(td, clock(e.at)) },
    { name: "After", class: "number", cell: (td, e) => text(td, duration(e.after)) },
    { name: "Event", cell: (td, e) => state(td, e.type) },
    { name: "Step", cell: (td, e) => text(td, e.step === null ? "" : `${e.step} ${e.channel}`) },
    { name: "Try", class: "number", cell: (td, e) => text(td, e.attempt) },
    { name: "Carrier", cell: (td, e) => (e.carrier ? link(td, `#/carrier/${name(e.carrier)}`, e.carrier) : text(td, "")) },
    { name: "Why", class: "wide", cell: (td, e) => text(td, e.why) },
  ], { caption: "What happened" });
  main.append(h("nav", { class: "crumbs", "aria-label": "Back" }, h("a", { href: "#/messages" }, "Messages")), h("h1", { class: "code" }, id), head, drawn, events);
  let seq = -1;

  const draw = (m) => {
    const open = OPEN.has(m.status);
    const last = m.events.at(-1)?.seq ?? 0;
    if (last !== seq || open) drawn.replaceChildren(picture(m, open ? Date.now() : null));
    if (last === seq) return;
    seq = last;
    const pill = h("span");
    state(pill, m.status);
    const tenant = h("a", { href: `#/tenant/${name(m.tenant)}` }, m.tenant);
    head.replaceChildren(facts([["status", pill], ["tenant", tenant], ["reference", m.reference], ["category", m.category],
      ["cascade", m.cascade.map((s) => `${s.channel} ${duration(s.timeout_s)}`).join(" → ")], ["delivered by", m.delivered_by === null ? "" : `step ${m.delivered_by}, ${m.cascade[m.delivered_by].channel}`],
      ["made", time(m.created_at)], ["ended", time(m.final_at)], ["took", m.final_at ? duration((Date.parse(m.final_at) - Date.parse(m.created_at)) / 1000) : ""],
      ["expires", open ? time(m.expires_at) : ""], ["cost", m.cost]]));
    const began = Date.parse(m.created_at);
    const carriers = new Map(m.attempts.map((a) => [`${a.step}/${a.attempt}`, a.carrier]));
    events.show(m.events.map((e) => ({ ...e, after: (Date.parse(e.at) - began) / 1000, channel: m.cascade[e.step]?.channel ?? "",
      carrier: e.data?.carrier ?? e.data?.receipt?.carrier ?? carriers.get(`${e.step}/${e.attempt}`), why: words(e) })), (e) => e.seq);
  };
  live.every(2000, async () => {
    const m = await get(`/v1/messages/${name(id)}`);
    draw(m);
    if (!OPEN.has(m.status) && Date.now() - Date.parse(m.final_at) > 600000) live.stop(); // nothing more is likely to come
  });
}
