// What arrives is kept in `state`, and each section is drawn again when something of it is new.
import { clock, fill, h, tick } from "./dom.js";
import { alerts, database, figures, logs, traffic } from "./facts.js";
import { jobs } from "./jobs.js";
import { queues, schedule } from "./queues.js";
import { service, services, sign, ways } from "./services.js";
import { traces } from "./traces.js";

const state = {};
const open = { service: null, log: null, id: null, trace: null, span: null, all: false };
const running = new Map(); // job that somebody wants now: what its button says
const RETRY = 3000; // milliseconds
const byId = (id) => document.getElementById(id);
const SECTIONS = [["services", "Stack"], ["traffic", "Requests"], ["jobs", "Jobs"], ["queues", "Queues"], ["schedule", "Schedule"], ["traces", "Traces"], ["alerts", "Alerts"], ["database", "Database"], ["logs", "Logs"]];
const DRAWN = { // section of the page: what it is drawn from, and how
  figures: [["traffic", "services", "records"], () => figures(state)],
  services: [["services", "traffic", "traces", "records", "queues", "executions", "alerts"], () => services(state)],
  traffic: [["traffic"], () => traffic(state, Math.max(280, (byId("traffic").querySelector(".chart")?.clientWidth ?? byId("traffic").clientWidth * 0.6) - 32))],
  jobs: [["records", "executions"], () => jobs(state)],
  queues: [["queues", "records"], () => queues(state)],
  schedule: [["queues"], () => schedule(state, running)],
  traces: [["traces"], () => traces(state, open)],
  alerts: [["alerts", "records"], () => alerts(state)],
  database: [["records", "verdict"], () => database(state)],
  logs: [["troubles", "errors"], () => logs(state)],
};

function verdict() {
  const { level = "busy", text = "Looking…", reasons = [] } = state.verdict ?? {};
  byId("verdict").className = `verdict ${level}`;
  fill("verdict", sign(level), ` ${text}`);
  document.title = `${{ good: "✓", busy: "…", bad: "✗" }[level]} ${text}`;
  fill("reasons", reasons.length > 0 && h("ul", reasons.map((each) => h("li", { class: each.level, "data-key": each.text }, sign(each.level), h("a", { href: `#${each.section}` }, each.text)))));
  const worst = (name) => reasons.filter((each) => each.section === name).map((each) => each.level).sort()[0];
  fill("sections", SECTIONS.map(([name, title]) => h("a", { href: `#${name}`, "data-key": name }, title, worst(name) && h("i.dot", { class: worst(name), role: "img", "aria-label": "look here" }))));
}

function about() {
  const { links, root } = state.about;
  fill("links", [["docs", "API"], ["mail", "Inbox"], ["openapi", "OpenAPI"]].map(([name, title]) => h("a", { href: links[name], target: "_blank", rel: "noopener" }, title)), h("a", { href: "/state", target: "_blank" }, "JSON"));
  fill("root", root.replace(/\/\.local$/, "").split("/").pop());
}

function draw(names) {
  const fresh = new Set(names);
  for (const [section, [sources, drawn]] of Object.entries(DRAWN)) {
    if (sources.some((each) => fresh.has(each))) fill(section, drawn());
  }
  ways(state);
  if (open.service) drawer();
  const telling = state.traces?.traces.reduce((best, each) => (each.spans > (best?.spans ?? 1) ? each : best), null);
  if (!open.id && telling) openTrace(telling.id);
}

function drawer() {
  fill("drawer", service(open.service, state, open.log));
}

async function readLog() {
  const name = open.service;
  const answer = await fetch(`/log/${encodeURIComponent(name)}`).catch(() => null);
  if (open.service !== name) return;
  const box = document.querySelector("#drawer .log");
  const atEnd = !box || box.scrollTop + box.clientHeight > box.scrollHeight - 30;
  open.log = answer?.ok ? (await answer.json()).lines : [];
  drawer();
  const after = document.querySelector("#drawer .log");
  if (after && atEnd) after.scrollTop = after.scrollHeight;
}

async function openTrace(id) {
  Object.assign(open, { id, trace: null, span: null, all: false });
  fill("traces", traces(state, open));
  const answer = await fetch(`/traces/${id}`).catch(() => null);
  if (open.id !== id) return;
  open.trace = answer?.ok ? await answer.json() : null;
  fill("traces", traces(state, open));
}

async function runNow(name) {
  if (running.has(name)) return;
  running.set(name, "Asked…");
  fill("schedule", schedule(state, running));
  const answer = await fetch(`/schedule/${name}/run`, { method: "POST", headers: { "X-Status-Page": "run" } }).catch(() => null);
  byId("said").textContent = answer?.ok ? `${name} was started.` : `${name} could not be started.`;
  if (!answer?.ok) running.set(name, "Not started");
  fill("schedule", schedule(state, running));
  setTimeout(() => { running.delete(name); fill("schedule", schedule(state, running)); }, answer?.ok ? 1200 : 6000);
}

const ACTS = {
  service: ({ name }) => {
    Object.assign(open, { service: name, log: null });
    drawer();
    byId("drawer").showModal();
    readLog();
  },
  close: () => byId("drawer").close(),
  trace: ({ id }) => {
    byId("drawer").close();
    openTrace(id);
    byId("traces").scrollIntoView({ block: "nearest" });
  },
  span: ({ id }) => {
    open.span = open.span === id ? null : id;
    fill("traces", traces(state, open));
  },
  all: () => {
    open.all = !open.all;
    fill("traces", traces(state, open));
  },
  run: ({ name }) => runNow(name),
};

document.addEventListener("click", (event) => {
  const asked = event.target.closest("[data-act]");
  if (asked) ACTS[asked.dataset.act](asked.dataset);
  else if (event.target === byId("drawer")) byId("drawer").close();
});
byId("drawer").addEventListener("close", () => { open.service = null; });

function hear(event) {
  const fresh = JSON.parse(event.data);
  Object.assign(state, fresh);
  clock.set(state.about.now);
  about();
  if (fresh.verdict || !document.body.classList.contains("live")) verdict();
  document.body.classList.add("live");
  draw(Object.keys(fresh));
}

/** What stands there is old: it says so in the tab, too, and loses its colours. */
function deaf() {
  document.body.classList.remove("live");
  byId("verdict").className = "verdict bad";
  fill("verdict", sign("bad"), " This page hears nothing: the stack was stopped, or starts");
  document.title = "✗ hears nothing";
  if (this.readyState === EventSource.CLOSED) setTimeout(listen, RETRY); // the browser itself tries again, but not after a refusal
}

function listen() {
  const source = new EventSource("/events");
  source.onmessage = hear;
  source.onerror = deaf;
}
listen();
setInterval(tick, 1000);
setInterval(() => { if (open.service) readLog(); }, 2000);
addEventListener("resize", () => { draw(["traffic"]); });
