// The log as it is written.

import { get } from "/console/api.js";
import { h, clock, mark } from "/console/dom.js";

const KEPT = 500;

export function log(main, { live }) {
  const level = h("select", { "aria-label": "Lowest level" }, ["debug", "info", "warning", "error"].map((l) => h("option", { value: l }, l)));
  const filter = h("input", { type: "search", placeholder: "holds this text", "aria-label": "Only lines that hold this text" });
  const pause = h("input", { type: "checkbox", id: "pause" });
  const lines = h("ol", { class: "log", "aria-live": "off", tabindex: "0", "aria-label": "Log" });
  main.append(h("h1", {}, "Log"), h("p", { class: "tools" }, level, " ", filter, " ", h("label", { class: "inline" }, pause, " hold still")),
    h("p", { class: "hint" }, "The last 500 lines of every worker. An actor's page changes the level for it and all below it."), lines);
  let last = 0;

  const fits = (line) => !filter.value || line.textContent.toLowerCase().includes(filter.value.toLowerCase());
  filter.addEventListener("input", () => { for (const line of lines.children) line.hidden = !fits(line); });
  level.addEventListener("change", () => { last = 0; lines.replaceChildren(); });
  live.every(1500, async () => {
    if (pause.checked) return;
    const page = await get("/v1/log", { after: last, level: level.value, limit: KEPT });
    if (page.last < last) lines.replaceChildren(); // the node was restarted
    last = page.last;
    const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 20;
    for (const line of page.data) {
      const shown = h("li", {}, h("time", {}, clock(line.at)), h("span", { class: `level ${line.level}` }, line.level), h("b", {}, line.event),
        Object.entries(line.facts).filter(([name]) => name !== "exception").map(([name, value]) => h("span", { class: "fact" }, h("i", {}, `${name}=`), typeof value === "object" ? JSON.stringify(value) : String(value))),
        line.facts.exception ? h("pre", {}, line.facts.exception) : null);
      mark(shown, line.level);
      shown.hidden = !fits(shown);
      lines.append(shown);
    }
    while (lines.children.length > KEPT) lines.firstElementChild.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  });
}
