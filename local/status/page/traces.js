// Traces: the newest ones, and the chosen one as a waterfall.
import { h, heading, milliseconds, nothing, plural, when } from "./dom.js";
import { nice } from "./charts.js";
import { sign } from "./services.js";

const HUES = 8;
const TICKS = 5;
const LONG = 60; // spans: a longer trace leaves out what nobody could see

/** Always the same colour for a service; the fronts of Cloud Run have that of what stands behind them. */
export function hue(service) {
  let sum = 7;
  for (const letter of service.replace(/^run:/, "").replace(/-jobs$/, "")) sum = (sum * 31 + letter.charCodeAt(0)) % 997;
  return sum % HUES;
}

function row(one, longest, chosen) {
  return h("li", { "data-key": one.id }, h("button", { type: "button", "data-act": "trace", "data-id": one.id, "aria-current": String(one.id === chosen), class: one.failed ? "bad" : "" },
    h("span.name", one.failed && sign("bad", "failed"), h("b", one.name)),
    h("span.bar", { "aria-hidden": "true" }, h("i", { class: `hue${hue(one.services.find((name) => !name.startsWith("run:") && name !== "gateway") ?? one.services[0])}`, "--size": `${Math.max(1.5, (one.milliseconds / longest) * 100).toFixed(1)}%` })),
    h("span.took", milliseconds(one.milliseconds)),
    h("span.soft", plural(one.spans, "span"), ", ", when(one.started))));
}

function span(one, total, chosen) {
  const [left, size] = [(one.at / total) * 100, Math.max(0.25, (one.milliseconds / total) * 100)];
  const details = Object.entries(one.attributes);
  return h("li", { "data-key": one.id, class: one.failed ? "bad" : "" },
    h("button", { type: "button", "data-act": "span", "data-id": one.id, "aria-expanded": String(chosen === one.id), "--depth": Math.min(one.depth, 12) },
      h("span.name", one.failed && sign("bad", "failed"), h("b", one.name), h("small", one.service)),
      h("span.lane", { "aria-hidden": "true" }, h("i", { class: `hue${hue(one.service)} kind-${one.kind.toLowerCase()}`, "--left": `${left.toFixed(2)}%`, "--size": `${Math.min(size, 100 - left).toFixed(2)}%` })),
      h("span.took", milliseconds(one.milliseconds))),
    chosen === one.id && h("dl", [["begins after", milliseconds(one.at)], ["kind", one.kind.toLowerCase()], ...details].flatMap(([name, value]) => [h("dt", name), h("dd", String(value))])));
}

/** Of a long trace the spans that took a part of its time that could be seen, or failed, and what they are below. */
export function worthwhile(spans, total) {
  const kept = spans.map((each) => spans.length <= LONG || each.failed || each.milliseconds > total / 120 || each.depth < 1);
  for (let place = spans.length - 1, depth = 0; place >= 0; place -= 1) {
    if (kept[place]) depth = spans[place].depth;
    else if (spans[place].depth < depth) [kept[place], depth] = [true, spans[place].depth];
  }
  return spans.filter((_, place) => kept[place]);
}

function waterfall(trace, chosen, all) {
  const total = Math.max(trace.milliseconds, 0.01);
  const shown = all ? trace.spans : worthwhile(trace.spans, total);
  const step = nice(total / TICKS);
  const ticks = Array.from({ length: Math.floor(total / step) + 1 }, (_, place) => place * step).filter((at) => at / total < 0.97);
  return h("div.waterfall", { "data-key": trace.id },
    h("p.summary", h("b", milliseconds(trace.milliseconds)), `${plural(trace.spans.length, "span")} in ${plural(new Set(trace.spans.map((each) => each.service)).size, "service")}`, when(trace.started), h("code", trace.id),
      (all || shown.length < trace.spans.length) && h("button.plain", { type: "button", "data-act": "all" }, all ? "only the long ones" : `show the ${trace.spans.length - shown.length} short ones too`)),
    h("div.ticks", { "aria-hidden": "true" }, ticks.map((at) => h("span", { "--left": `${((at / total) * 100).toFixed(2)}%` }, at ? milliseconds(at) : "0"))),
    h("ol", shown.map((each) => span(each, total, chosen))));
}

export function traces(state, open) {
  const { kept = false, traces: rows = [] } = state.traces ?? {};
  const longest = Math.max(1, ...rows.map((each) => each.milliseconds));
  const chosen = open.trace;
  return [
    heading("traces", "Traces", h("p.beside", rows.length ? `the newest ${rows.length}` : "")),
    !state.traces ? nothing("Looking…") : !kept ? nothing("No traces are kept: this stack runs with TELEMETRY=off, or sends them elsewhere.") : rows.length === 0 && !chosen ? nothing("No request was traced yet.")
      : h("div.split.traces", { "data-key": "split" },
        h("div.panel.list", { tabindex: 0, role: "group", "aria-label": "The newest traces" }, h("ul", rows.map((each) => row(each, longest, open.id)))),
        h("div.panel.fall", chosen ? waterfall(chosen, open.span, open.all) : nothing(open.id ? "Reading…" : "Choose a trace to see where its time went."))),
  ];
}
