// Renders /openapi.json. Text goes into the page as text, never as markup; nothing is loaded from elsewhere.
"use strict";

const METHODS = ["get", "post", "put", "delete"];

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

// `code` marks become <code>; a blank line begins a paragraph.
function prose(text, tag) {
  return text.trim().split(/\n\s*\n/).map((paragraph) => {
    const node = make(tag || "p");
    paragraph.split("`").forEach((part, n) => node.append(n % 2 ? make("code", null, part) : part));
    return node;
  });
}

function resolve(root, value) {
  let steps = 0;
  while (value && value.$ref && steps++ < 8) {
    value = value.$ref.slice(2).split("/").reduce((at, key) => at[key.replace(/~1/g, "/").replace(/~0/g, "~")], root);
  }
  return value || {};
}

// A short name for a type: "string, 1..128 characters", "list of text".
function kind(root, given) {
  const name = given.$ref ? given.$ref.split("/").pop() : null;
  const schema = resolve(root, given);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.anyOf) {
    const options = schema.anyOf.filter((one) => one.type !== "null");
    const note = schema.anyOf.length > options.length ? ", or null" : "";
    return options.map((one) => kind(root, one)).join(" or ") + note;
  }
  if (schema.type === "array") {
    const most = schema.maxItems ? `, at most ${schema.maxItems}` : "";
    return `list of ${kind(root, schema.items || {})}${most}`;
  }
  if (schema.type === "object" && name) return name;
  if (schema.type === "object") return schema.additionalProperties ? "object of any members" : "object";
  let text = schema.format || schema.type || "anything";
  const low = schema.minimum, high = schema.maximum;
  if (low !== undefined || high !== undefined) text += ` ${low ?? ""}..${high ?? ""}`;
  if (schema.minLength !== undefined || schema.maxLength !== undefined) {
    text += `, ${schema.minLength ?? 0}..${schema.maxLength ?? ""} characters`;
  }
  return text;
}

function structs(root, given) {
  const schema = resolve(root, given);
  if (schema.anyOf) return schema.anyOf.flatMap((one) => structs(root, one));
  if (schema.type === "array") return structs(root, schema.items || {});
  return schema.properties ? [schema] : [];
}

function described(root, given) {
  const schema = resolve(root, given);
  if (given.$ref === undefined && schema.description) return schema.description;
  const option = (schema.anyOf || []).find((one) => one.description);
  return option ? option.description : "";
}

function fields(root, given, above) {
  const list = make("ul", { class: "fields" });
  for (const schema of structs(root, given)) {
    if (above.includes(schema)) continue;
    for (const [name, value] of Object.entries(schema.properties)) {
      const item = make("li", null, make("code", null, name), " ");
      item.append(make("span", { class: "kind" }, kind(root, value)));
      if ((schema.required || []).includes(name)) item.append(" ", make("span", { class: "needed" }, "required"));
      if (value.default !== undefined && value.default !== null && !Array.isArray(value.default)) {
        item.append(make("span", { class: "kind" }, ` default ${JSON.stringify(value.default)}`));
      }
      const text = described(root, value);
      if (text) item.append(make("span", { class: "kind" }, ` · ${text}`));
      const below = fields(root, value, [...above, schema]);
      if (below.children.length) item.append(below);
      list.append(item);
    }
  }
  return list;
}

function json(value) {
  return make("pre", null, JSON.stringify(value, null, 2));
}

function operation(root, path, method, given) {
  const inside = make("div", { class: "inside" }, ...prose(given.description || ""));
  const parameters = given.parameters || [];
  if (parameters.length) {
    const rows = parameters.map((one) => make("tr", null,
      make("td", null, make("code", null, one.name)),
      make("td", null, make("span", { class: "kind" }, `${one.in}, ${kind(root, one.schema)}`),
        one.schema.default === undefined ? null : make("span", { class: "kind" }, `, default ${one.schema.default}`),
        ...(one.description ? [make("br"), ...prose(one.description, "span")] : []))));
    inside.append(make("h3", null, "Parameters"), make("table", null, ...rows));
  }
  const body = given.requestBody && given.requestBody.content["application/json"];
  if (body) {
    inside.append(make("h3", null, given.requestBody.required ? "Body" : "Body (may be left out)"));
    inside.append(fields(root, body.schema, []));
    for (const example of Object.values(body.examples || {})) {
      inside.append(make("p", { class: "quiet" }, `Example: ${example.summary}`), json(example.value));
    }
  }
  inside.append(make("h3", null, "Answers"));
  const table = make("table");
  for (const [status, one] of Object.entries(given.responses)) {
    const answer = resolve(root, one);
    const cell = make("td");
    const content = Object.entries(answer.content || {});
    const problem = content.find(([type]) => type.includes("problem"));
    if (problem) {
      Object.keys(problem[1].examples || {}).forEach((code, n) => {
        cell.append(n ? ", " : "", make("a", { href: `#problem-${code}` }, code));
      });
    } else {
      cell.append(answer.description);
      for (const [type, media] of content) {
        if (type !== "application/json") cell.append(make("span", { class: "kind" }, ` ${type}`));
        if (media.schema) cell.append(fields(root, media.schema, []));
        if (media.example !== undefined) cell.append(json(media.example));
      }
    }
    table.append(make("tr", null, make("td", null, make("code", null, status)), cell));
  }
  inside.append(table);
  return make("details", { id: given.operationId },
    make("summary", null, make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("code", null, path), make("span", { class: "what" }, given.summary)), inside);
}

function problems(root) {
  const rows = Object.entries(root["x-problems"]).map(([code, one]) => make("tr", { id: `problem-${code}` },
    make("td", null, make("code", null, code)), make("td", null, String(one.status)),
    make("td", null, one.title, one.retry_after ? make("span", { class: "kind" }, " · Retry-After") : null)));
  return make("section", { id: "problems" }, make("h2", null, "Problems"),
    make("p", { class: "quiet" }, "Refusals are application/problem+json with one of these codes."),
    make("table", null, make("tr", null, make("th", null, "code"), make("th", null, "status"), make("th", null, "")), ...rows));
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

function show(root) {
  document.getElementById("version").textContent = root.info.version;
  document.getElementById("about").append(...prose(root.info.description));
  const contents = document.getElementById("contents");
  const place = document.getElementById("operations");
  place.replaceChildren();
  for (const tag of root.tags) {
    const section = make("section", null, make("h2", null, tag.name), make("p", { class: "quiet" }, tag.description));
    const part = make("div", null, make("h2", null, tag.name));
    for (const [path, item] of Object.entries(root.paths)) {
      for (const method of METHODS.filter((one) => item[one] && item[one].tags.includes(tag.name))) {
        section.append(operation(root, path, method, item[method]));
        const link = make("a", { href: `#${item[method].operationId}` },
          make("span", { class: `method ${method}` }, method.toUpperCase()), path.replace("/v1", ""));
        link.dataset.text = `${method} ${path} ${item[method].summary}`.toLowerCase();
        part.append(link);
      }
    }
    place.append(section);
    contents.append(part);
  }
  place.append(problems(root));
  contents.append(make("div", null, make("h2", null, "Problems"), make("a", { href: "#problems" }, "All codes")));
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const link of contents.querySelectorAll("a[data-text]")) link.hidden = !link.dataset.text.includes(wanted);
  });
  addEventListener("hashchange", reveal);
  reveal();
}

fetch("/openapi.json").then((answer) => answer.json()).then(show).catch((error) => {
  document.getElementById("wait").textContent = `The description could not be read: ${error}`;
});
