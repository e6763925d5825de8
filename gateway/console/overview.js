// The first page: is it well, how much goes through, and who stands out.

import { get, actorPath, name } from "/console/api.js";
import { h, History, clock, count, duration, link, ofWorker, sparkline, state, table, text } from "/console/dom.js";

const EVERY_MS = 2000;

function figure(label, title) {
  const value = h("strong", {}, "…");
  const line = h("span", { class: "line" });
  const element = h("div", { class: "figure", title }, h("span", { class: "label" }, label), value, line);
  element.show = (shown, values) => {
    text(value, shown);
    if (values && values.length > 1) line.replaceChildren(sparkline(values, { label: `${label}, the last minutes` }));
  };
  return element;
}

export function overview(main, { live, health }) {
  const figures = {
    accepted: figure("accepted per second", "over the last ten seconds"),
    ended: figure("ended per second", "reached a final status, since the last look"),
    failed: figure("not delivered, of those ended", "failed, expired or unknown, since the node started"),
    open: figure("open messages", "with an actor, and parked in the journal"),
    journal: figure("journal queue", "writes not committed yet"),
    webhooks: figure("webhooks pending", "not yet answered by customers"),
  };
  const actors = table([
    { name: "Actor", cell: (td, a) => link(td, `#/actor/${actorPath(a.name)}`, ofWorker(a.name)) },
    { name: "State", cell: (td, a) => state(td, a.state) },
    { name: "Mailbox", class: "number", cell: (td, a) => text(td, count(a.mailbox)) },
    { name: "CPU", class: "number", cell: (td, a) => text(td, a.share === undefined ? "" : `${(a.share * 100).toFixed(1)} %`) },
    { name: "Restarts", class: "number", cell: (td, a) => text(td, count(a.restarts)) },
    { name: "Last error", class: "wide", cell: (td, a) => text(td, a.last_error) },
  ], { caption: "Actors that stand out" });
  const carriers = table([
    { name: "Carrier", cell: (td, c) => link(td, `#/carrier/${name(c.name)}`, c.name) },
    { name: "State", cell: (td, c) => state(td, c.state, c.reason) },
    { name: "Per second", class: "number", cell: (td, c) => text(td, c.rate_per_s.toFixed(1)) },
    { name: "Queue", class: "number", cell: (td, c) => text(td, c.queue ? `${count(c.queue)} (${duration(c.queue_age_s)})` : "0") },
    { name: "", cell: (td, c) => td.replaceChildren(sparkline(rates.of(c.name), { label: `rate of ${c.name}` })) },
    { name: "Why", class: "wide", cell: (td, c) => text(td, c.reason) },
  ], { caption: "Carriers" });
  const tenants = table([
    { name: "Tenant", cell: (td, t) => link(td, `#/tenant/${name(t.id)}`, t.name) },
    { name: "Per second", class: "number", cell: (td, t) => text(td, t.rate_per_s.toFixed(1)) },
    { name: "Accepted", class: "number", cell: (td, t) => text(td, count(t.accepted)) },
  ], { caption: "Tenants", empty: "No tenant has sent anything yet." });
  const decisions = table([
    { name: "At", cell: (td, d) => text(td, clock(d.at)) },
    { name: "Supervisor", cell: (td, d) => link(td, `#/actor/${actorPath(d.supervisor)}`, ofWorker(d.supervisor)) },
    { name: "Child", cell: (td, d) => text(td, d.child) },
    { name: "Decision", cell: (td, d) => state(td, d.decision, d.delay_s ? `in ${duration(d.delay_s)}` : "") },
    { name: "Reason", class: "wide", cell: (td, d) => text(td, d.reason) },
  ], { caption: "What supervisors decided", empty: "No supervisor had to decide anything." });
  const versions = h("p", { class: "hint" });
  main.append(h("h1", { class: "visually-hidden" }, "Overview"),
    h("section", { class: "figures" }, Object.values(figures)),
    h("div", { class: "columns" }, h("section", {}, actors), h("section", {}, carriers), h("section", {}, tenants), h("section", {}, decisions)), versions);
  const history = new History(90);
  const rates = new History(60);
  let before = null;

  live.every(EVERY_MS, async () => {
    const seen = await get("/v1/overview", { limit: 8 });
    health(seen);
    const ended = Object.values(seen.final).reduce((a, b) => a + b, 0);
    const bad = (seen.final.failed ?? 0) + (seen.final.expired ?? 0) + (seen.final.unknown ?? 0);
    const passed = before && seen.uptime_s > before.uptime_s ? seen.uptime_s - before.uptime_s : 0;
    const endedPerS = passed ? (ended - before.ended) / passed : 0;
    history.add([["accepted", seen.accepted_per_s], ["ended", endedPerS], ["open", (seen.messages.active ?? 0) + (seen.messages.parked ?? 0)],
      ["journal", seen.journal.queue], ["webhooks", seen.webhooks_pending]]);
    rates.add(seen.carriers.map((c) => [c.name, c.rate_per_s]));
    figures.accepted.show(seen.accepted_per_s.toLocaleString("en"), history.of("accepted"));
    figures.ended.show(endedPerS.toFixed(1), history.of("ended"));
    figures.failed.show(ended ? `${((bad / ended) * 100).toFixed(1)} %` : "–");
    figures.open.show(`${count(seen.messages.active)} + ${count(seen.messages.parked)}`, history.of("open"));
    figures.journal.show(seen.journal.up ? count(seen.journal.queue) : "away", history.of("journal"));
    figures.webhooks.show(count(seen.webhooks_pending), history.of("webhooks"));
    const spent = new Map((before?.actors ?? []).map((a) => [a.name, a.time_spent_s]));
    for (const a of seen.actors) if (passed && spent.has(a.name)) a.share = Math.max(a.time_spent_s - spent.get(a.name), 0) / passed;
    actors.show(seen.actors.sort((a, b) => b.mailbox - a.mailbox || b.restarts - a.restarts || b.time_spent_s - a.time_spent_s).slice(0, 12), (a) => a.name);
    carriers.show(seen.carriers, (c) => c.name);
    tenants.show(seen.tenants, (t) => t.id);
    decisions.show(seen.decisions, (d) => d.at + d.supervisor + d.child + d.decision);
    const states = Object.entries(seen.carriers_by_state).map(([s, n]) => `${count(n)} ${s}`).join(", ");
    const workers = seen.workers > 1 ? ` on ${count(seen.workers)} workers${seen.workers_unreachable ? ` (${count(seen.workers_unreachable)} do not answer)` : ""}` : "";
    text(versions, `hermes ${seen.version}${workers}, up ${duration(seen.uptime_s)}: ${count(seen.actors_total)} actors, ${count(seen.carriers_total)} carriers (${states || "none"}), ${count(seen.tenants_total)} tenants`);
    before = { uptime_s: seen.uptime_s, ended, actors: seen.actors };
  });
}
