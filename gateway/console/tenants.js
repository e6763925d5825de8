// Tenants: a list that can be filtered, and one of them.

import { get, put, actorPath, name } from "/console/api.js";
import { h, confirmed, count, facts, link, state, table, text, time } from "/console/dom.js";

const PAGE = 50;

export function tenants(main, { live }) {
  const filter = h("input", { type: "search", placeholder: "name or id", "aria-label": "Filter tenants" });
  const counted = h("span", { class: "hint", role: "status" });
  const list = table([
    { name: "Tenant", cell: (td, t) => link(td, `#/tenant/${name(t.id)}`, t.name) },
    { name: "Id", class: "code", cell: (td, t) => text(td, t.id) },
    { name: "Status", cell: (td, t) => state(td, t.status) },
    { name: "Per second", class: "number", cell: (td, t) => text(td, rates.get(t.id)?.rate_per_s.toFixed(1)) },
    { name: "Accepted", class: "number", cell: (td, t) => text(td, rates.has(t.id) ? count(rates.get(t.id).accepted) : "") },
  ], { empty: "No tenant fits." });
  const back = h("button", { type: "button", onclick: () => { page -= 1; draw(); } }, "Before");
  const on = h("button", { type: "button", onclick: () => { page += 1; draw(); } }, "Next");
  main.append(h("h1", {}, "Tenants"), h("p", { class: "tools" }, filter, " ", counted), list, h("p", { class: "buttons" }, back, on));
  let all = [];
  let rates = new Map();
  let page = 0;

  const draw = () => {
    const wanted = filter.value.trim().toLowerCase();
    const found = all.filter((t) => t.name.toLowerCase().includes(wanted) || t.id.toLowerCase().includes(wanted));
    const pages = Math.max(Math.ceil(found.length / PAGE), 1);
    page = Math.min(Math.max(page, 0), pages - 1);
    list.show(found.slice(page * PAGE, (page + 1) * PAGE), (t) => t.id);
    text(counted, `${count(found.length)} of ${count(all.length)}${pages > 1 ? `, page ${page + 1} of ${pages}` : ""}`);
    back.hidden = on.hidden = pages < 2;
    back.disabled = page === 0;
    on.disabled = page === pages - 1;
  };
  filter.addEventListener("input", () => { page = 0; draw(); });
  live.every(15000, async () => { all = await everybody(); draw(); });
  live.every(3000, async () => {
    rates = new Map((await get("/v1/overview", { limit: 100 })).tenants.map((t) => [t.id, t]));
    draw();
  });
}

export async function everybody() {
  const found = [];
  let cursor = null;
  do {
    const page = await get("/v1/tenants", cursor ? { cursor } : {});
    found.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor);
  return found;
}

export function tenant(main, { live, attempt, argument: id }) {
  const title = h("h1", {}, id);
  const head = h("div", { class: "cards" });
  const flip = h("button", { type: "button" });
  const keys = table([
    { name: "Key", class: "code", cell: (td, k) => text(td, `${k.prefix}…`) },
    { name: "Mode", cell: (td, k) => text(td, k.mode) },
    { name: "Scopes", cell: (td, k) => text(td, k.scopes.join(", ")) },
    { name: "Made", cell: (td, k) => text(td, time(k.created_at)) },
    { name: "Ends", cell: (td, k) => text(td, time(k.expires_at)) },
  ], { caption: "Keys", empty: "No keys." });
  const path = `/v1/tenants/${name(id)}`;
  main.append(h("nav", { class: "crumbs", "aria-label": "Back" }, h("a", { href: "#/tenants" }, "Tenants")), title, h("p", { class: "buttons" }, flip), head,
    h("p", { class: "tools" }, h("a", { href: `#/messages?tenant=${name(id)}` }, "messages"), " · ", h("a", { href: `#/dead-letters/${name(id)}` }, "dead letters"), " · ",
      h("a", { href: `#/actor/${actorPath(`tenant/${id}`)}` }, "its actor")), keys);

  const draw = (t) => {
    text(title, t.name);
    const pill = h("span");
    state(pill, t.status);
    head.replaceChildren(facts([["id", t.id], ["status", pill], ...Object.entries(t).filter(([field]) => !["id", "name", "status"].includes(field))
      .map(([field, value]) => [field.replaceAll("_", " "), typeof value === "object" && value !== null ? JSON.stringify(value) : value])]));
    const suspended = t.status !== "active";
    text(flip, suspended ? "Activate" : "Suspend");
    flip.onclick = async () => {
      if (!suspended && !(await confirmed(`Suspend ${t.name}?`, "Suspend", "No more messages are taken from it; those it has are still sent."))) return;
      const seen = await attempt(() => put(path, { status: suspended ? "active" : "suspended" }));
      if (seen) draw(seen);
    };
  };
  live.every(5000, async () => {
    draw(await get(path));
    keys.show((await get(`${path}/keys`)).data, (k) => k.id);
  });
}
