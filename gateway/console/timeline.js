// A message's cascade as a picture: one lane a step, one bar a try, from when it was decided to how it ended.

import { duration, svg } from "/console/dom.js";

const WIDTH = 960;
const LEFT = 150;
const RIGHT = 24;
const LANE = 26;
const TOP = 30;

const ms = (at) => (at ? Date.parse(at) : null);

// Round steps for the scale: 1, 2 or 5 times a power of ten.
function ticks(span) {
  const rough = span / 6;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? power;
  const found = [];
  for (let at = 0; at <= span; at += step) found.push(at);
  return found;
}

export function picture(m, now) {
  const began = ms(m.created_at);
  const times = [...m.events.map((e) => ms(e.at)), ms(m.final_at), now].filter((at) => at !== null);
  const span = Math.max(Math.max(...times) - began, 1) * 1.03;
  const x = (at) => LEFT + ((Math.max(at, began) - began) / span) * (WIDTH - LEFT - RIGHT);
  const tries = [...m.attempts].sort((a, b) => a.step - b.step || a.attempt - b.attempt);
  const lanes = tries.length || 1;
  const height = TOP + lanes * LANE + 30;
  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "timeline", role: "img", "aria-label": summary(m) });
  for (const at of ticks(span)) {
    drawn.append(svg("line", { class: "grid", x1: x(began + at), x2: x(began + at), y1: TOP - 6, y2: height - 26 }),
      svg("text", { class: "tick", x: x(began + at), y: height - 10 }, duration(at / 1000)));
  }
  tries.forEach((a, n) => drawn.append(lane(a, TOP + n * LANE, x, now ?? Math.max(...times))));
  for (const e of m.events) {
    if (e.type !== "fallback") continue;
    const to = tries.findIndex((a) => a.step === e.step && a.attempt === e.attempt);
    if (to < 1) continue;
    const at = x(ms(e.at));
    drawn.append(svg("path", { class: "fallback", d: `M ${at} ${TOP + (to - 1) * LANE + LANE / 2} V ${TOP + to * LANE + LANE / 2}` }));
  }
  if (m.final_at) {
    const at = x(ms(m.final_at));
    const near = at > WIDTH - 140;
    drawn.append(svg("line", { class: `final ${m.status}`, x1: at, x2: at, y1: TOP - 10, y2: height - 26 }),
      svg("text", { class: `final-label ${m.status}`, x: near ? at - 6 : at + 6, y: TOP - 14, "text-anchor": near ? "end" : "start" }, m.status));
  }
  return drawn;
}

function lane(a, y, x, end) {
  const group = svg("g", {});
  const queued = ms(a.queued_at);
  const submitted = ms(a.submitted_at);
  const ended = ms(a.ended_at) ?? end;
  const middle = y + LANE / 2;
  group.append(svg("text", { class: "lane", x: LEFT - 10, y: middle + 4 }, `${a.step} ${a.channel}${a.attempt > 1 ? ` (try ${a.attempt})` : ""}`));
  const bar = (from, to, name) => svg("rect", { class: `bar ${name}`, x: x(from), y: y + 6, width: Math.max(x(to) - x(from), 3), height: LANE - 12, rx: 3 });
  const label = [a.carrier, a.status.replace("_", " "), a.error ? [a.error.class, a.error.code].filter(Boolean).join(" ") : "", a.recovered ? "recovered" : ""].filter(Boolean).join(" · ");
  group.append(svg("title", {}, label));
  group.append(bar(queued, submitted ?? ended, submitted ? "queued" : a.status));
  if (submitted !== null && ended > submitted) group.append(bar(submitted, ended, a.status));
  if (submitted !== null) group.append(svg("circle", { class: "submitted", cx: x(submitted), cy: middle, r: 4 }));
  const after = x(ended) + 8;
  const long = label.length * 6;
  if (after + long < WIDTH) group.append(svg("text", { class: "what", x: after, y: middle + 4 }, label));
  else if (x(queued) - long > LEFT) group.append(svg("text", { class: "what", x: x(queued) - 8, y: middle + 4, "text-anchor": "end" }, label));
  else group.append(svg("text", { class: "what", x: x(submitted ?? queued) + 10, y: middle + 4 }, label));
  return group;
}

function summary(m) {
  return `${m.status}: ${m.attempts.map((a) => `step ${a.step} ${a.channel} by ${a.carrier}, ${a.status}`).join("; ")}`;
}

// Why an event happened, in words.
export function words(e) {
  const data = e.data ?? {};
  const said = [];
  if (data.error) said.push([data.error.class, data.error.code].filter(Boolean).join(" ") + (data.error.detail ? `: ${data.error.detail}` : ""));
  const ids = data.carrier_message_ids ?? [];
  if (e.type === "submitted" && ids.length) said.push(`id ${ids[0]}${ids.length > 1 ? ` and ${ids.length - 1} more` : ""}`);
  if (e.type === "submitted" && data.segments > 1) said.push(`${data.segments} segments`);
  if (e.type === "timed_out" && data.timeout_s !== undefined) said.push(`no receipt within ${duration(data.timeout_s)}`);
  if (e.type === "receipt" && data.status) said.push(data.status);
  if (["fallback", "superseded"].includes(e.type) && data.reason) said.push(data.reason.replaceAll("_", " "));
  if (e.type === "ambiguous" && data.policy) said.push(`policy ${data.policy}`);
  if (e.type === "corrected" && data.from) said.push(`was ${data.from}`);
  if (data.receipt?.status) said.push(`receipt ${data.receipt.status}`);
  if (["rejected", "ambiguous"].includes(e.type) && data.next?.not_before) said.push(`next try ${data.next.not_before.slice(11, 19)}`);
  return said.join(", ");
}
