
"use strict";
const byId = (id) => document.getElementById(id);
const TABLE = JSON.parse(byId("table").textContent);
const OPEN_GROUPS = ["prompt", "diffusion"];
const STAGE_ACTIONS = ["freeze", "blackout", "reset"];
const POLL_MS = 500, SEND_MS = 40, LEAVE_ALONE_MS = 1200;
const controls = new Map();      // name -> {show(value), touched: time of the last own change}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// ---- sending: the newest value of each parameter, at most one request at a time ----
let pending = {}, sending = false, toastTimer = 0;

function put(name, value) {
  pending[name] = value;
  const control = controls.get(name);
  if (control) control.touched = Date.now();
  if (!sending) flush();
}

async function flush() {
  sending = true;
  while (Object.keys(pending).length) {
    const body = JSON.stringify(pending);
    pending = {};
    try {
      const answer = await fetch("/api/values", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const legal = answer.ok ? (await answer.json()).values : {};
      for (const [name, value] of Object.entries(legal)) if (!(name in pending)) controls.get(name)?.confirm?.(value);
      if (!answer.ok) complain(await answer.text());
    } catch { complain("Phosphene does not answer"); }
    await new Promise((done) => setTimeout(done, SEND_MS));
  }
  sending = false;
}

function complain(text) {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { byId("toast").hidden = true; }, 5000);
}

// ---- controls, one maker a kind ----
const shortNumber = (value, whole) => whole ? String(Math.round(value)) : String(Number(value.toPrecision(4)));

function numberControl(row) {
  const [low, high] = row.range, whole = row.kind === "int";
  const wide = whole && high - low > 20000;
  const position = (value) => row.logarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const value = (place) => row.logarithmic ? low * (high / low) ** place : low + place * (high - low);
  const slider = make("input", { type: "range", min: 0, max: 1, step: whole ? 1 / (high - low) : "any", "aria-label": row.name });
  const box = make("input", { type: "number", min: low, max: high, step: whole ? 1 : "any", id: `in-${row.name}` });
  const show = (number) => { slider.value = position(number); box.value = shortNumber(number, whole); };
  slider.addEventListener("input", () => { const n = value(Number(slider.value)); box.value = shortNumber(n, whole); put(row.name, whole ? Math.round(n) : n); });
  box.addEventListener("change", () => { if (box.value !== "") put(row.name, Number(box.value)); });
  return { element: make("div", { className: wide ? "pair alone" : "pair" }, ...(wide ? [box] : [slider, box])), show, inputs: [slider, box] };
}

function textControl(row) {
  const list = row.kind === "list";
  const box = make("input", { type: "text", id: `in-${row.name}`, spellcheck: false, autocomplete: "off", placeholder: list ? "whole numbers, for example 600 300" : "" });
  box.addEventListener("change", () => put(row.name, box.value));
  return { element: box, show: (value) => { box.value = list ? value.join(" ") : value; }, inputs: [box] };
}

function toggleControl(row) {
  const box = make("input", { type: "checkbox", id: `in-${row.name}` });
  box.addEventListener("change", () => put(row.name, box.checked));
  return { element: box, show: (value) => { box.checked = value; }, inputs: [] };
}

function choiceControl(row) {
  const menu = make("select", { id: `in-${row.name}` }, ...row.choices.map((choice) => make("option", { value: choice }, choice.replaceAll("_", " "))));
  menu.addEventListener("change", () => put(row.name, menu.value));
  return { element: menu, show: (value) => { menu.value = value; }, inputs: [] };
}

const MAKERS = { float: numberControl, int: numberControl, text: textControl, list: textControl, toggle: toggleControl, choice: choiceControl };

function actionButton(row) {
  const button = make("button", { type: "button", title: row.doc }, row.name.replaceAll("_", " "));
  let on = false;
  const show = (value) => { on = value; button.setAttribute("aria-pressed", String(value)); };
  button.addEventListener("click", () => { if (row.kind === "toggle") show(!on); put(row.name, row.kind === "toggle" ? on : true); });
  return { element: button, show: row.kind === "toggle" ? show : () => {}, inputs: [] };
}

function build() {
  const groups = new Map();
  let before = { name: "", line: null };
  for (const row of TABLE) {
    const action = row.kind === "trigger" || STAGE_ACTIONS.includes(row.name);
    const control = action ? actionButton(row) : MAKERS[row.kind](row);
    control.touched = 0;
    control.confirm = (value) => { if (row.kind !== "trigger" && !control.inputs.some((i) => i.type !== "range" && i === document.activeElement)) control.show(value); };
    controls.set(row.name, control);
    if (row.kind !== "trigger") control.show(row.default);
    if (action) { byId("actions").append(control.element); continue; }
    if (row.name === `${before.name}_weight`) {      // a share stands beside what it is a share of
      control.inputs.forEach((input) => { input.title = `${row.name}: ${row.doc}\nOSC ${row.osc}`; });
      before.line.classList.add("weighted");
      before.line.append(control.element);
      continue;
    }
    if (!groups.has(row.group)) groups.set(row.group, make("div", { className: "rows" }));
    const unit = row.unit ? [" ", make("small", {}, row.unit)] : [];
    const label = make("label", { htmlFor: `in-${row.name}`, title: `${row.doc}\nOSC ${row.osc}` }, row.name.replaceAll("_", " "), ...unit);
    label.addEventListener("dblclick", () => { control.show(row.default); put(row.name, row.default); });
    const line = make("div", { className: `row ${row.kind}` }, label, control.element);
    groups.get(row.group).append(line);
    before = { name: row.name, line };
  }
  for (const [group, rows] of groups) {
    byId("controls").append(make("details", { open: OPEN_GROUPS.includes(group) }, make("summary", {}, group), rows));
  }
}

// ---- what is going on: state and values, asked for while the page can be seen ----
function showPairs(list, pairs) {
  list.replaceChildren(...pairs.filter(([, text]) => text !== "").map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
}

function say(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return shortNumber(value, Number.isInteger(value));
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map(say).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([key, item]) => `${key} ${say(item)}`).join(" · ");
  return String(value);
}

function showState({ readouts, facts }) {
  const { state, error, ...rest } = readouts;
  byId("state").textContent = byId("state").dataset.state = state;
  byId("error").textContent = error;
  byId("error").hidden = error === "";
  const named = { fps: `${Number(rest.fps).toFixed(1)}` };
  for (const name of ["latency_ms", "first_frame_ms", "jitter_ms"]) named[name] = `${Math.round(rest[name])} ms`;
  if (!rest.first_frame_ms) for (const name of ["first_frame_ms", "jitter_ms", "deadline_misses"]) delete rest[name]; // no video stream
  showPairs(byId("readouts"), Object.entries(rest).map(([name, value]) => [name.replace("_ms", "").replaceAll("_", " "), named[name] ?? say(value)]));
  showPairs(byId("facts"), Object.entries(facts).map(([name, value]) => [name.replaceAll("_", " "), say(value)]));
}

async function poll() {
  if (!document.hidden) {
    try {
      showState(await (await fetch("/api/state")).json());
      const { values } = await (await fetch("/api/values")).json();
      for (const [name, value] of Object.entries(values)) {
        const control = controls.get(name);
        if (!control || name in pending || Date.now() - control.touched < LEAVE_ALONE_MS) continue;
        if (!control.inputs.includes(document.activeElement) || document.activeElement.type === "range") control.show(value);
      }
    } catch {
      byId("state").textContent = "not answering";
      byId("state").dataset.state = "lost";
    }
  }
  setTimeout(poll, POLL_MS);
}

// ---- the picture: asked for only while it can be seen, asked for again when it breaks off ----
function watch() {
  const picture = byId("picture");
  picture.addEventListener("load", () => { byId("waiting").hidden = true; });
  picture.addEventListener("error", () => { byId("waiting").hidden = false; setTimeout(begin, 1500); });
  const begin = () => { if (!document.hidden) picture.src = `/preview.mjpg?${Date.now()}`; };
  document.addEventListener("visibilitychange", () => { if (document.hidden) picture.removeAttribute("src"); else begin(); });
  begin();
}

build();
poll();
watch();
