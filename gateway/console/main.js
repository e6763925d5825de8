// The console's shell: the session, which view is shown, looking again and again, the keys.

import * as api from "/console/api.js";
import { h, tell, text, mark } from "/console/dom.js";
import { overview } from "/console/overview.js";
import { tree, actor } from "/console/actors.js";
import { carriers, carrier } from "/console/carriers.js";
import { tenants, tenant } from "/console/tenants.js";
import { messages, message } from "/console/messages.js";
import { log } from "/console/log.js";
import { deadLetters } from "/console/deadletters.js";

const VIEWS = [
  ["", "Overview", overview], ["tree", "Tree", tree], ["carriers", "Carriers", carriers], ["tenants", "Tenants", tenants],
  ["messages", "Messages", messages], ["dead-letters", "Dead letters", deadLetters], ["log", "Log", log],
];
const PAGES = { ...Object.fromEntries(VIEWS.map(([path, , view]) => [path, view])), actor, carrier, tenant, message };
const OVER = { actor: "tree", carrier: "carriers", tenant: "tenants", message: "messages" };

const $ = (id) => document.getElementById(id);
let shown = null; // the view on the screen: {stop()}

// Call `look` now and every `everyMs` until the view changes; not while nobody looks, more slowly while the node is away.
class Live {
  constructor() { this.timers = new Set(); this.ended = false; }
  every(everyMs, look) {
    let failures = 0;
    let timer = null;
    const again = (ms) => {
      if (this.ended) return;
      this.timers.delete(timer);
      timer = setTimeout(run, ms);
      this.timers.add(timer);
    };
    const run = async () => {
      if (document.hidden) return again(everyMs);
      try {
        await look();
        if (this.ended) return;
        failures = 0;
        away("");
      } catch (error) {
        if (this.ended) return;
        if (error instanceof api.Refused && error.status === 401) return enter();
        failures += 1;
        away(error.message, error instanceof api.Away);
        if (error instanceof api.Refused && error.status === 404) return;
        if (!(error instanceof api.Away) && !(error instanceof api.Refused)) throw error;
      }
      again(everyMs * Math.min(2 ** failures, 8));
    };
    return run();
  }
  stop() { this.ended = true; for (const timer of this.timers) clearTimeout(timer); }
}

function away(why, retrying = false) {
  $("away").hidden = !why;
  text($("away"), why ? why + (retrying ? " Trying again." : "") : "");
}

// Do what the operator ordered, and say why it was not done.
async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    if (error instanceof api.Refused && error.status === 401) enter();
    else tell("It was not done", h("p", {}, error.message));
    return undefined;
  }
}

function show() {
  if ($("header").hidden) return;
  shown?.stop();
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/");
  const live = new Live();
  const main = $("main");
  main.replaceChildren();
  away("");
  shown = live;
  const current = OVER[page] ?? page;
  for (const anchor of $("nav").children) {
    if (anchor.dataset.page === current) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const view = PAGES[page];
  const label = VIEWS.find(([name]) => name === current)?.[1] ?? "Hermes";
  document.title = `${rest.length ? decodeURIComponent(rest.join("/")) + " · " : ""}${label} · Hermes`;
  if (!view) main.append(h("p", { class: "empty" }, "There is no such page."));
  else view(main, { live, attempt, argument: rest.map(decodeURIComponent).join("/"), query: new URLSearchParams(query), health });
}

function health(seen) {
  const silent = seen.workers_unreachable;
  const bad = !seen.ready || !seen.journal.up || silent > 0;
  mark($("health"), bad ? "pill bad" : "pill good");
  const why = !seen.journal.up ? "database away" : !seen.ready ? "not ready" : `${silent} of ${seen.workers} workers silent`;
  text($("health"), bad ? why : `ready · ${seen.accepted_per_s.toLocaleString("en")}/s`);
}

// --- the session

function enter() {
  shown?.stop();
  shown = null;
  $("header").hidden = true;
  away("");
  document.title = "Log in · Hermes";
  const key = h("input", { id: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false" });
  const why = h("p", { class: "error", role: "alert" });
  const form = h("form", { class: "login", method: "post", onsubmit: async (event) => {
    event.preventDefault();
    text(why, "");
    try {
      await api.login(key.value.trim());
      open();
    } catch (error) {
      text(why, error.status === 401 ? "This is not the operator key of this node." : error.message);
      key.select();
    }
  } }, h("h1", {}, "Hermes"), h("label", { for: "key" }, "Operator key"), key, h("button", { class: "primary" }, "Log in"), why,
  h("p", { class: "hint" }, "The key is in HERMES_OPERATOR_KEY, or in operator.key in the node's data folder. It is not kept in this browser: a session cookie is, for 12 hours."));
  $("main").replaceChildren(form);
  key.focus();
}

function open() {
  $("header").hidden = false;
  show();
}

// --- keys

const JUMPS = { o: "", t: "tree", c: "carriers", n: "tenants", m: "messages", x: "dead-letters", l: "log" };
let pendingG = 0;

function keys() {
  tell("Keys", h("dl", { class: "facts" },
    Object.entries(JUMPS).map(([key, page]) => [h("dt", {}, h("kbd", {}, "g"), " ", h("kbd", {}, key)), h("dd", {}, VIEWS.find(([name]) => name === page)[1])]),
    h("dt", {}, h("kbd", {}, "/")), h("dd", {}, "Open a message, actor, carrier or tenant"),
    h("dt", {}, h("kbd", {}, "↑"), " ", h("kbd", {}, "↓"), " ", h("kbd", {}, "←"), " ", h("kbd", {}, "→")), h("dd", {}, "Walk the tree, fold and unfold"),
    h("dt", {}, h("kbd", {}, "d")), h("dd", {}, "Light or dark"),
    h("dt", {}, h("kbd", {}, "?")), h("dd", {}, "This help")));
}

document.addEventListener("keydown", (event) => {
  if ($("header").hidden || event.ctrlKey || event.metaKey || event.altKey || $("dialog").open) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (pendingG && event.key in JUMPS) {
    location.hash = `#/${JUMPS[event.key]}`;
    pendingG = 0;
    return;
  }
  pendingG = 0;
  if (event.key === "g") pendingG = 1;
  else if (event.key === "/") { event.preventDefault(); $("search").focus(); }
  else if (event.key === "?") keys();
  else if (event.key === "d") flip();
});

function jump(what) {
  if (/^msg_/.test(what)) return `#/message/${encodeURIComponent(what)}`;
  if (/^ten_/.test(what)) return `#/tenant/${encodeURIComponent(what)}`;
  if (/^(root|workers|journal|carriers|providers|router|dlr|mo|webhooks|tenants|waker|gateway)$/.test(what) || what.includes("/")) return `#/actor/${api.actorPath(what)}`;
  return `#/carrier/${encodeURIComponent(what)}`;
}

function flip() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("hermes-theme", document.documentElement.dataset.theme);
}

const theme = localStorage.getItem("hermes-theme");
if (theme) document.documentElement.dataset.theme = theme;
$("nav").append(...VIEWS.map(([path, label]) => h("a", { href: `#/${path}`, "data-page": path }, label)));
$("theme").addEventListener("click", flip);
$("help").addEventListener("click", keys);
$("logout").addEventListener("click", async () => { await attempt(api.logout); enter(); });
$("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const what = $("search").value.trim();
  if (!what) return;
  $("search").value = "";
  $("search").blur();
  location.hash = jump(what);
});
addEventListener("hashchange", show);
api.session().then(open, enter);
