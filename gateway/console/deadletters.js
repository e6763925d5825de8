// Webhooks that were given up, by tenant, and sending them again.

import { get, post, name } from "/console/api.js";
import { h, confirmed, count, link, table, text, time } from "/console/dom.js";
import { everybody } from "/console/tenants.js";

const PAGE = 50;

export function deadLetters(main, { live, attempt, argument: tenant }) {
  const choice = h("input", { list: "tenants", placeholder: "ten_…", "aria-label": "Tenant", value: tenant });
  const names = h("datalist", { id: "tenants" });
  const form = h("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); location.hash = `#/dead-letters/${name(choice.value.trim())}`; } },
    choice, names, " ", h("button", {}, "Show"));
  main.append(h("h1", {}, "Dead letters"), form);
  live.every(60000, async () => {
    names.replaceChildren(...(await everybody()).slice(0, 1000).map((t) => h("option", { value: t.id }, t.name)));
  });
  if (!tenant) {
    main.append(h("p", { class: "empty" }, "Choose a tenant: dead letters are kept by tenant."));
    return;
  }
  const path = `/v1/tenants/${name(tenant)}/dead-letters`;
  const replay = async (ids) => {
    let done = 0;
    for (const id of ids) if (await attempt(() => post(`${path}/${name(id)}/replay`))) done += 1; else break;
    text(said, done ? `${count(done)} will be sent again.` : "");
    await attempt(look);
  };
  const said = h("p", { class: "hint", role: "status" });
  const list = table([
    { name: "Given up", cell: (td, d) => text(td, time(d.dead_at)) },
    { name: "Event", cell: (td, d) => text(td, d.type) },
    { name: "Message", class: "code", cell: (td, d) => link(td, `#/message/${name(d.message_id)}`, d.message_id) },
    { name: "Target", cell: (td, d) => text(td, d.target) },
    { name: "Tries", class: "number", cell: (td, d) => text(td, d.attempts) },
    { name: "Last error", class: "wide", cell: (td, d) => text(td, d.last_error) },
    { name: "", cell: (td, d) => {
      if (!td.firstElementChild) td.append(h("button", { type: "button", onclick: async () => { if (await confirmed("Send this webhook again?", "Send again", "With all its tries; its webhook-id stays the same.")) await replay([d.id]); } }, "Replay"));
    } },
  ], { empty: "No dead letters." });
  let cursor = null;
  let next = null;
  let shown = [];
  const on = h("button", { type: "button", onclick: () => { cursor = next; attempt(look); } }, "Older");
  const first = h("button", { type: "button", onclick: () => { cursor = null; attempt(look); } }, "Newest");
  const all = h("button", { type: "button", onclick: async () => {
    if (await confirmed(`Send these ${count(shown.length)} webhooks again?`, "Send again", "With all their tries; their webhook-ids stay the same.")) await replay(shown.map((d) => d.id));
  } }, "Replay this page");
  const look = async () => {
    const page = await get(path, { limit: PAGE, cursor });
    shown = page.data;
    next = page.next_cursor;
    list.show(shown, (d) => d.id);
    on.disabled = !next;
    first.disabled = !cursor;
    all.disabled = !shown.length;
  };
  main.append(h("p", { class: "buttons" }, all, first, on), said, list);
  live.every(5000, look);
}
