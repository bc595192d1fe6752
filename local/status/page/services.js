// The map of the stack: each service where it stands in the cloud, and lines along which requests go.
import { bytes, duration, fill, h, heading, milliseconds, number, plural, when } from "./dom.js";
import { spark } from "./charts.js";

const GROUPS = [
  ["edge", "Edge", "What the world reaches"],
  ["function", "Cloud Run, public", "What the gateway leads to"],
  ["workload", "GKE", "Live sessions"],
  ["internal", "Cloud Run, internal", "What only the cloud may call"],
  ["async", "Jobs and events", "What happens later"],
  ["data", "Data", "What stays"],
  ["outside", "Outside", "Who hears of it"],
  ["platform", "Platform", "What the rest stands on"],
];
export const LOOKS = {
  ready: ["good", "runs"], done: ["good", "done"], starting: ["busy", "starts"], waiting: ["busy", "waits"],
  delayed: ["bad", "starts again soon"], failed: ["bad", "failed"], stopped: ["bad", "stopped"], paused: ["bad", "held by a signal"],
};
const WAYS = [ // from, to: drawn when both are there; a line lives while requests arrive at `to`
  ["scheduler", "retention"], ["scheduler", "keys"], ["scheduler", "incidents"], ["alerts", "incidents"],
  ["tasks", "workflows"], ["workflows", "exports-jobs"], ["workflows", "deletions-jobs"],
];

/** The look of a service: good, busy or bad, and the word for it. */
export function look(service) {
  const [tone, word] = LOOKS[service.state] ?? ["busy", service.state];
  return tone === "good" && service.health.answers === false ? ["bad", "does not answer"] : [tone, word];
}

/** A sign of its own shape for each tone: colour alone tells nobody who cannot see it. */
export function sign(tone, word = "") {
  const shape = {
    good: [h("circle", { cx: 8, cy: 8, r: 7 }), h("path.cut", { d: "M4.6 8.3l2.3 2.3 4.4-4.9" })],
    busy: [h("circle.ring", { cx: 8, cy: 8, r: 6 }), h("path", { d: "M8 2a6 6 0 0 1 0 12z" })],
    bad: [h("path", { d: "M8 .8l7.4 13.4H.6z" }), h("path.cut", { d: "M8 5.6v4M8 11.7v.6" })],
    idle: [h("circle.ring", { cx: 8, cy: 8, r: 6 })],
  }[tone === "work" ? "busy" : tone];
  return h("svg.sign", { viewBox: "0 0 16 16", class: tone, ...(word ? { role: "img", "aria-label": word } : { "aria-hidden": "true" }) }, shape);
}

/** Requests of a service in the last minute. */
export const lately = (traffic, name) => (traffic?.services[name]?.counts ?? []).slice(-6).reduce((sum, value) => sum + value, 0);

/** What somebody would ask of a stand-in first. */
function extra(name, state) {
  const { records, queues = {}, executions = [], alerts } = state;
  const under = executions.filter((each) => each.state === "ACTIVE").length;
  const waiting = (queues.tasks ?? []).reduce((sum, each) => sum + each.depth, 0);
  const open = (alerts?.incidents ?? []).filter((each) => each.ended === null).length;
  const told = {
    postgres: records?.database && plural(Object.values(records.database.logins).flatMap(Object.values).reduce((sum, count) => sum + count, 0), "connection"),
    tasks: queues.tasks && (waiting ? plural(waiting, "task") : "empty"),
    workflows: under ? `${under} under way` : "idle",
    scheduler: queues.schedule?.length && plural(queues.schedule.length, "job"),
    alerts: alerts && (open ? `${open} open` : "calm"),
    mail: queues.mails !== undefined && plural(queues.mails, "message"),
    sms: queues.texts !== undefined && plural(queues.texts, "message"),
  }[name];
  return told ? h("span.told", told) : null;
}

function tile(service, state) {
  const [tone, word] = look(service);
  const numbers = state.traffic?.services[service.name];
  const active = (numbers?.counts ?? []).slice(-1)[0] || lately(state.traffic, service.name) > 20;
  const streams = service.group === "workload" && state.traces?.streams;
  return h("button.tile", {
    type: "button", "data-act": "service", "data-name": service.name, "data-key": service.name, class: `${tone}${active ? " active" : ""}`,
  },
  h("span.name", sign(tone, word), h("b", service.name), service.restarts > 0 && h("em.again", h("span", { "aria-hidden": "true" }, "↻ "), service.restarts, h("span.hidden", service.restarts === 1 ? " restart" : " restarts"))),
  numbers
    ? h("span.facts", h("span", `${number(lately(state.traffic, service.name))}/min`), numbers.p95 !== null && h("span", `${numbers.p95} ms`), streams ? h("span", plural(streams, "stream")) : null)
    : h("span.facts", h("span.plays", service.plays), extra(service.name, state)),
  numbers && spark(numbers.counts.slice(-45), { tone: numbers.failed ? "bad" : "mark" }));
}

const ran = (steps) => steps.length > 0 && h("p.steps", "Ran at the start: ", steps.map((step) => h("span", sign(look(step)[0], look(step)[1]), step.name)));

export function services(state) {
  const rows = state.services?.services ?? [];
  const steps = rows.filter((row) => row.group === "step");
  const ready = rows.filter((row) => row.state === "ready").length;
  const groups = GROUPS.map(([name, title, about]) => [name, title, about, rows.filter((row) => row.group === name)]).filter((group) => group[3].length);
  return [
    heading("services", "The stack", h("p.beside", `${ready} of ${rows.length - steps.length} services run`, state.services?.ready_seconds ? `, ready after ${state.services.ready_seconds} s` : "")),
    h("div.map", { "data-key": "map" },
      h("svg.ways#ways", { "aria-hidden": "true", "data-key": "ways", "data-own": "" }),
      groups.map(([name, title, about, members]) => h("div.group", { class: `g-${name}`, "data-key": name, role: "group", "aria-label": title },
        h("h3", title, h("small", about)), h("div.tiles", members.map((each) => tile(each, state))), name === "platform" && ran(steps)))),
  ];
}

/** Draw the lines between the tiles as they stand now. */
export function ways(state) {
  const canvas = document.getElementById("ways");
  if (!canvas) return;
  const frame = canvas.parentElement.getBoundingClientRect();
  const drawn = [];
  const place = (name) => document.querySelector(`.tile[data-name="${CSS.escape(name)}"]`)?.getBoundingClientRect();
  const rows = state.services?.services ?? [];
  const entry = rows.filter((row) => ["function", "workload"].includes(row.group)).map((row) => ["gateway", row.name]);
  for (const [from, to] of [...entry, ...WAYS]) {
    const [a, b] = [place(from), place(to)];
    if (!a || !b) continue;
    const count = lately(state.traffic, to);
    drawn.push(h("path", { "data-key": `${from} ${to}`, d: line(a, b, frame), class: count ? "alive" : "", "stroke-width": (count ? Math.min(4, 1.3 + Math.log10(count)) : 1.1).toFixed(1) }));
  }
  fill("ways", frame.width < 860 ? [] : drawn);
}

function line(a, b, frame) {
  const y = (box) => box.top + box.height / 2 - frame.top;
  const right = a.left + a.width / 2 < b.left + b.width / 2;
  if (Math.abs(a.left - b.left) < 20) {
    const x = a.left + a.width / 2 - frame.left;
    return a.top < b.top ? `M${x} ${a.bottom - frame.top}V${b.top - frame.top}` : `M${x} ${a.top - frame.top}V${b.bottom - frame.top}`;
  }
  const [x1, x2] = right ? [a.right - frame.left, b.left - frame.left] : [a.left - frame.left, b.right - frame.left];
  const bend = (x2 - x1) / 2;
  return `M${x1} ${y(a)}C${x1 + bend} ${y(a)} ${x2 - bend} ${y(b)} ${x2} ${y(b)}`;
}

/** What the drawer tells of one service. */
export function service(name, state, log) {
  const one = state.services?.services.find((row) => row.name === name);
  if (!one) return [h("h2#h-drawer", name), h("p", "This service is gone.")];
  const [tone, word] = look(one);
  const numbers = state.traffic?.services[name];
  const facts = [
    ["State", [sign(tone), ` ${word}`]],
    ["Runs for", one.pid ? when(one.began, "for") : "–"],
    ["Process", one.pid ? `${one.pid}${one.processes > 1 ? ` and ${one.processes - 1} more` : ""}` : "none"],
    ["Restarts", `${one.restarts}${one.last_end && one.group !== "step" ? ` (last end: ${one.last_end})` : ""}`],
    ["Memory", one.processes ? bytes(one.memory) : "–"],
    ["Processor", one.processes ? `${(one.cpu * 100).toFixed(1)} %` : "–"],
    ["Listens on", one.ports.join(", ") || "nothing"],
    ["Answers", one.health.answers === null ? "not asked" : one.health.answers ? `in ${milliseconds(one.health.milliseconds)}` : "no"],
    ...Object.entries(one.health.checks).map(([check, said]) => [`Its ${check}`, said]),
    ...(numbers ? [["Last minute", plural(lately(state.traffic, name), "request")], ["95 % within", numbers.p95 === null ? "–" : duration(numbers.p95 / 1000)], ["5xx", `${numbers.failed} in a quarter of an hour`]] : []),
  ];
  return [
    h("div.drawer-top", h("div", h("p.soft", one.plays), h("h2#h-drawer", name)), h("button.close", { type: "button", "data-act": "close", "aria-label": "Close" }, "✕")),
    numbers && spark(numbers.counts, { width: 400, height: 48, tone: numbers.failed ? "bad" : "mark" }),
    h("dl.facts-list", facts.flatMap(([term, said]) => [h("dt", term), h("dd", said)])),
    h("h3", "Log"),
    log === null ? h("p.soft", "Reading…") : log.length ? h("pre.log", { tabindex: 0, role: "region", "aria-label": `The last lines of the log of ${name}` }, log.map((text, place) => entry(text, place))) : h("p.soft", "Nothing was written."),
  ];
}

const NOISE = new Set(["severity", "message", "time", "at", "service", "method", "route", "status", "milliseconds", "listener", "request_id"]);
const TONES = { WARNING: "busy", ERROR: "bad", CRITICAL: "bad", ALERT: "bad", EMERGENCY: "bad" };

/** A line of a log: what is structured is told in the order in which a person reads. */
function entry(text, place) {
  let said = null;
  try {
    said = text.startsWith("{") ? JSON.parse(text) : null;
  } catch { /* a line that only looks like JSON */ }
  if (said === null) return h("span", { class: /Traceback|FATAL|PANIC|\[error\]/.test(text) ? "bad" : /\[warning\]/.test(text) ? "busy" : "", "data-key": place }, `${text}\n`);
  const moment = String(said.time ?? said.at ?? "").slice(11, 19);
  const trace = String(said["logging.googleapis.com/trace"] ?? "").split("/").pop();
  const rest = Object.entries(said).filter(([name, value]) => !NOISE.has(name) && !name.includes("/") && value !== null && value !== "-");
  const status = said.status === undefined ? "" : ` ${said.status}${said.milliseconds === undefined ? "" : ` in ${said.milliseconds} ms`}`;
  const route = String(said.route ?? "");
  return h("span", { class: TONES[said.severity] ?? (said.status >= 500 ? "bad" : ""), "data-key": place },
    h("i", `${moment} `), said.severity && said.severity !== "INFO" ? `${said.severity} ` : "", said.message && said.message !== "request" ? `${said.message} ` : "",
    route && `${said.method && !route.startsWith(said.method) ? `${said.method} ` : ""}${route}`, status, rest.map(([name, value]) => h("i", ` ${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)),
    trace && [" ", h("button.plain", { type: "button", "data-act": "trace", "data-id": trace }, "trace")], "\n");
}
