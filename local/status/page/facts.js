// In short, requests, alerts and blocks, the database, and what the logs complain of.
import { bytes, duration, h, heading, milliseconds, moment, nothing, number, plural, when } from "./dom.js";
import { meter, requests, spark } from "./charts.js";
import { sign } from "./services.js";

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);

function figure(id, title, value, unit, about, picture) {
  return h("div.figure", { "data-key": id }, h("p.title", title), h("p.value", h("b", value), unit && h("span", ` ${unit}`)), h("p.about", about), picture);
}

export function figures(state) {
  const { traffic, services, records } = state;
  const rows = services?.services ?? [];
  const totals = traffic ? traffic.good.map((value, place) => value + traffic.refused[place] + traffic.failed[place]) : [];
  const [all, failed] = [sum(totals), sum(traffic?.failed ?? [])];
  const late = traffic?.p95.filter((value) => value !== null).at(-1) ?? null;
  const open = (records?.jobs ?? []).filter((job) => ["queued", "running"].includes(job.status)).length;
  const held = Object.values(records?.database?.logins ?? {}).reduce((total, states) => total + sum(Object.values(states)), 0);
  return [
    figure("rate", "Requests", number(sum(totals.slice(-6))), "in a minute", `${number(all)} in a quarter of an hour`, spark(totals.slice(-45))),
    figure("late", "Answering time", late === null ? "–" : milliseconds(late), "", "95 % of the last ones", spark((traffic?.p95 ?? []).slice(-45), { tone: "late" })),
    figure("failed", "Failures", all ? ((failed / all) * 100).toFixed(failed ? 2 : 0) : "0", "%", `${number(failed)} of ${number(all)} with 5xx`, spark((traffic?.failed ?? []).slice(-45), { tone: failed ? "bad" : "good" })),
    figure("jobs", "Jobs", number(open), "under way", `${number((records?.jobs ?? []).filter((job) => job.status === "done").length)} done of late`),
    figure("connections", "Connections", number(held), `of ${number(records?.database?.most ?? 0)}`, "to the database"),
    figure("memory", "Memory", bytes(sum(rows.map((row) => row.memory))), "", `${number(sum(rows.map((row) => row.processes)))} processes, ${(sum(rows.map((row) => row.cpu))).toFixed(1)} processors`),
    figure("uptime", "Runs", services?.began ? when(services.began, "for") : "–", "", services?.ready_seconds ? `was ready after ${services.ready_seconds} s` : "not ready yet"),
  ];
}

export function traffic(state, width) {
  const one = state.traffic;
  return [
    heading("traffic", "Requests", h("p.legend", h("span.good", "answered"), h("span.refused", "refused, 4xx"), h("span.failed", "failed, 5xx"))),
    one && h("div.split", { "data-key": "split" },
      h("div.panel.chart", requests(one, width)),
      h("div.panel.wide", one.routes.length === 0 ? nothing("No request came yet.") : h("table.routes", h("thead", h("tr", h("th", { scope: "col" }, "Busiest routes"), ["count", "half", "95 %"].map((text) => h("th.figure-cell", { scope: "col" }, text)))),
        h("tbody", one.routes.map((route) => h("tr", { "data-key": route.route }, h("th", { scope: "row" }, h("i.share", { "aria-hidden": "true", "--size": `${((route.count / one.routes[0].count) * 100).toFixed(1)}%` }), method(route.route), route.failed > 0 && h("em.bad", ` ${number(route.failed)} failed`)),
          h("td.figure-cell", number(route.count)), h("td.figure-cell", milliseconds(route.p50)), h("td.figure-cell", milliseconds(route.p95)))))))),
  ];
}

function method(route) {
  const [verb, path] = route.split(" ");
  return h("span.route", h("b", verb), " ", path);
}

const span = (seconds) => (seconds === 60 ? "a minute" : duration(seconds));

const TITLES = { failed_log_ins: "Failed log-ins", unauthorized: "Requests without the right" };
const titled = (alert) => TITLES[alert] ?? alert.replaceAll("_", " ");

function series(one) {
  return h("li", { "data-key": one.alert }, h("div", h("b", titled(one.alert)), h("span", `${number(one.value)} in ${span(one.seconds)}`, h("small", `, alarm above ${number(one.above)}`))),
    meter(one.value, one.above, `${one.value} of ${one.above}`));
}

function block(one) {
  const over = one.lifted_at !== null || moment(one.ends_at) < Date.now() / 1000;
  return h("tr", { "data-key": `${one.network}${one.created_at}` }, h("th", { scope: "row" }, sign(over ? "idle" : "bad"), " ", h("code", one.network)),
    h("td", one.source), h("td.figure-cell", one.requests === null ? "–" : number(one.requests)), h("td", over ? ["over ", when(one.lifted_at ?? one.ends_at)] : one.in_force_at === null ? "not in force yet" : ["ends ", when(one.ends_at)]));
}

export function alerts(state) {
  const one = state.alerts;
  const { blocks = [], incidents = [] } = state.records?.answered ?? {};
  const open = (one?.incidents ?? []).filter((each) => each.ended === null);
  if (!one && blocks.length === 0 && incidents.length === 0) return [heading("alerts", "Alerts"), nothing("Nothing watches this stack for attacks.")];
  return [
    heading("alerts", "Alerts and blocks", h("p.beside", open.length ? plural(open.length, "alert is open", "alerts are open") : "all calm")),
    h("div.split", { "data-key": "split" },
      h("div.panel", h("h3", "What is counted"), h("ul.series", (one?.series ?? []).map((each) => series(each))),
        (one?.incidents ?? []).length > 0 && h("ul.past", one.incidents.slice(0, 5).map((each) => h("li", { "data-key": each.id }, sign(each.ended === null ? "bad" : "idle"), h("b", titled(each.alert)), h("span", each.ended === null ? ["open for ", when(each.started, "for")] : ["was over ", when(each.ended)]))))),
      h("div.panel.wide", h("h3", "What was done"),
        incidents.length > 0 && h("ul.past", incidents.slice(0, 5).map((each) => h("li", { "data-key": each.id }, sign(each.closed_at === null ? "busy" : "idle"), h("span.chip", { class: each.severity < "P2" ? "bad" : "busy" }, each.severity), h("b", each.title), h("span", each.closed_at === null ? "open since " : "closed ", when(each.closed_at ?? each.detected_at))))),
        blocks.length === 0 ? nothing("No address is blocked.") : h("table", h("thead", h("tr", ["Blocked", "By", "Requests", "Until"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", blocks.map(block))))),
  ];
}

export function database(state) {
  const one = state.records;
  if (!one) return [heading("database", "Database"), nothing("Looking…")];
  if (one.problem && !(state.verdict?.reasons ?? []).some((each) => each.section === "database")) return [heading("database", "Database"), nothing("It starts.")];
  if (one.problem) return [heading("database", "Database"), h("p.nothing.bad", sign("bad"), { silent: " It does not answer.", slow: " It is too slow to tell." }[one.problem] ?? ` It answers with the error ${one.problem}.`)];
  const facts = one.database;
  const rows = Object.entries(facts.logins).map(([login, states]) => [login, sum(Object.values(states)), states.active ?? 0, states["idle in transaction"] ?? 0]).sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...rows.map((row) => row[1]));
  const hit = facts.hits + facts.reads ? (facts.hits / (facts.hits + facts.reads)) * 100 : 100;
  const told = [["Size", bytes(facts.bytes)], ["Found in memory", `${hit.toFixed(1)} %`], ["Transactions", number(facts.commits)], ["Rolled back", number(facts.rollbacks)], ["Waiting for locks", number(facts.waiting)], ["Deadlocks", number(facts.deadlocks)], ["Longest transaction", duration(facts.longest)]];
  return [
    heading("database", "Database", h("p.beside", `${sum(rows.map((row) => row[1]))} of ${facts.most} connections`)),
    h("div.split", { "data-key": "split" },
      h("div.panel", h("h3", "Connections by service"), h("ul.connections", rows.map(([login, count, active, idle]) => h("li", { "data-key": login }, h("b", login || "?"), h("span.bar", { "aria-hidden": "true" }, h("i", { class: idle ? "busy" : active ? "good" : "", "--size": `${((count / most) * 100).toFixed(1)}%` })), h("span.took", number(count)), h("span.how", active ? `${active} at work` : idle ? `${idle} in a transaction` : "idle"))))),
      h("div.panel", h("h3", "PostgreSQL"), h("dl.facts-list", told.flatMap(([term, said]) => [h("dt", term), h("dd", said)])))),
  ];
}

function reported(one) {
  return h("li", { "data-key": `${one.service}${one.title}${one.place}` }, sign(one.level === "warning" ? "busy" : "bad", one.level ?? "error"), h("b", one.title ?? "?"), h("code", one.place ?? ""),
    h("span.text", one.service ?? "", one.transaction && h("small", ` ${one.transaction}`)), one.trace && h("button.plain", { type: "button", "data-act": "trace", "data-id": one.trace }, "its trace"), one.count > 1 && h("span.chip", `${number(one.count)} times`), h("span.end", when(one.at)));
}

export function logs(state) {
  const rows = state.troubles ?? [];
  const errors = sum(rows.filter((row) => row.severity !== "WARNING").map((row) => row.count));
  return [
    heading("logs", "What the logs complain of", h("p.beside", rows.length ? `${plural(errors, "error")}, ${plural(sum(rows.map((row) => row.count)) - errors, "warning")}` : "")),
    rows.length === 0 ? nothing("No error and no warning in any log.")
      : h("ul.panel.troubles", { "data-key": "list" }, rows.slice(0, 30).map((row) => h("li", { "data-key": `${row.log}${row.text}${row.details.error ?? ""}${row.details.code ?? ""}` },
        sign(row.severity === "WARNING" ? "busy" : "bad", row.severity.toLowerCase()), h("button.plain", { type: "button", "data-act": "service", "data-name": row.log }, row.log), h("span.text", row.text, Object.entries(row.details).filter(([name]) => name !== "request_id").map(([name, value]) => h("small", ` ${name}: ${value}`))), row.trace && h("button.plain", { type: "button", "data-act": "trace", "data-id": row.trace }, "its trace"), row.count > 1 && h("span.chip", `${number(row.count)} times`), h("span.end", when(row.at))))),
    (state.errors ?? []).length > 0 && h("div.panel.reported", { "data-key": "errors" }, h("h3", "Told to Sentry"), h("ul.troubles", state.errors.slice(0, 12).map(reported))),
  ];
}
