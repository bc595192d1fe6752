// Cloud Tasks, Pub/Sub, the outbox and Cloud Scheduler.
import { h, heading, nothing, number, plural, short, when } from "./dom.js";
import { columns } from "./charts.js";
import { sign } from "./services.js";

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** A unix-cron schedule in words, itself where it is an unusual one. */
export function spoken(schedule) {
  const [minute, hour, day, month, weekday] = schedule.split(" ");
  const two = (text) => text.padStart(2, "0");
  if (schedule === "* * * * *") return "every minute";
  if (/^\*\/\d+ \* \* \* \*$/.test(schedule)) return `every ${minute.slice(2)} minutes`;
  if (!/^\d+$/.test(minute) || day !== "*" || month !== "*") return schedule;
  if (hour === "*" && weekday === "*") return `hourly at :${two(minute)}`;
  if (!/^\d+$/.test(hour)) return schedule;
  if (weekday === "*") return `daily at ${two(hour)}:${two(minute)} UTC`;
  return /^\d$/.test(weekday) ? `${DAYS[weekday % 7]}s at ${two(hour)}:${two(minute)} UTC` : schedule;
}

const big = (value, words, tone = "") => h("div.big", { class: tone }, h("b", number(value)), h("span", words));

function queue(one) {
  const done = one.done.reduce((sum, value) => sum + value, 0);
  const tone = one.paused || one.retrying ? "busy" : "good";
  return h("article.panel.queue", { "data-key": one.name },
    h("header", sign(tone), h("h3", one.name, h("small", "Cloud Tasks")), one.paused && h("span.chip.busy", "paused"), h("span.end", `${one.rate ?? "?"}/s, ${one.concurrency ?? "?"} at once`)),
    h("div.bigs", big(one.depth, "in the queue"), big(one.flying, "under way"), big(one.retrying, "tried again", one.retrying ? "busy" : ""), big(done, "done in the hour")),
    columns(one.done, { label: `${done} tasks done in the last hour, by minute`, tone: "good" }),
    h("p.axis", h("span", "an hour ago"), h("span", "now")),
    h("p.note", one.oldest ? ["The oldest waits for ", when(one.oldest, "for")] : "Nothing waits", one.later ? `; ${plural(one.later, "task")} for later` : ""),
    one.failing.length > 0 && h("ul.failing", one.failing.map((task) => h("li", { "data-key": task.name }, h("code", short(task.name)), ` ${plural(task.dispatches, "attempt")}, last ${task.last_code ?? "without an answer"}, again `, when(task.scheduled)))));
}

function outbox(one) {
  const minutes = Array.from({ length: 60 }, (_, place) => one.minutes[59 - place] ?? 0);
  return h("article.panel.queue", { "data-key": "outbox" },
    h("header", sign(one.waiting ? "busy" : "good"), h("h3", "outbox", h("small", "in the database"))),
    h("div.bigs", big(one.waiting, "to be sent", one.waiting ? "busy" : ""), big(one.later, "for later"), big(one.undelivered, "on their way"), big(one.sent, "sent in the hour")),
    columns(minutes, { label: `${one.sent} messages sent in the last hour, by minute` }),
    h("p.axis", h("span", "an hour ago"), h("span", "now")),
    h("p.note", one.oldest ? ["The oldest waits for ", when(one.oldest, "for")] : "Nothing waits"),
    one.kinds.length > 0 && h("ul.kinds", one.kinds.map((kind) => h("li", { "data-key": `${kind.kind}${kind.name}` }, h("span", kind.name.replaceAll("_", " ")), h("small", kind.kind), h("b", number(kind.number))))));
}

function messages(one) {
  return h("article.panel.queue.small", { "data-key": "messages" },
    h("header", sign(one.attempts ? "busy" : "good"), h("h3", "alerts", h("small", "Pub/Sub"))),
    h("div.bigs", big(one.depth, "not delivered yet"), big(one.attempts ?? 0, "attempts")),
    h("p.note", one.oldest ? ["The oldest waits for ", when(one.oldest, "for")] : "Nothing waits"));
}

export function queues(state) {
  const { tasks = [], messages: topic } = state.queues ?? {};
  const waiting = tasks.reduce((sum, each) => sum + each.depth, 0);
  return [
    heading("queues", "Queues", h("p.beside", waiting ? plural(waiting, "task waits", "tasks wait") : "all empty")),
    h("div.queues", { "data-key": "queues" }, tasks.map(queue), state.records?.outbox && outbox(state.records.outbox), topic && messages(topic)),
  ];
}

function job(one, running) {
  const ran = one.last !== null;
  const good = ran && one.code >= 200 && one.code < 300;
  const said = !ran ? "has not run yet" : good ? "went well" : one.code === null ? "no answer" : `answered ${one.code}`;
  const asked = running.get(one.name);
  return h("li", { "data-key": one.name },
    h("span", h("b", one.name), h("small", one.target)),
    h("span", spoken(one.schedule)),
    h("span", ran ? sign(good ? "good" : "bad") : sign("idle"), ` ${said} `, ran && h("span.soft", when(one.last))),
    h("span", "next ", when(one.due)),
    h("button.do", { type: "button", "data-act": "run", "data-name": one.name, "aria-disabled": asked ? "true" : null }, asked ?? "Run now", h("span.hidden", `: ${one.name}`)));
}

export function schedule(state, running) {
  const rows = state.queues?.schedule ?? [];
  return [
    heading("schedule", "Cloud Scheduler", rows.length > 0 && h("p.beside", plural(rows.length, "job"))),
    rows.length === 0 ? nothing("The scheduler starts when the services that it calls are there.") : h("ul.panel.due", { "data-key": "list" }, rows.map((each) => job(each, running))),
  ];
}
