// Small pictures of numbers, drawn as SVG without a library.
import { h, milliseconds, number } from "./dom.js";

/** A line over the last steps, with the space below it filled. */
export function spark(values, { width = 120, height = 28, tone = "mark" } = {}) {
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, place) => `${(place * step).toFixed(1)},${(height - 2 - ((value ?? 0) / most) * (height - 4)).toFixed(1)}`);
  return h("svg.spark", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true", class: `tone-${tone}` },
    h("polygon.under", { points: `0,${height} ${points.join(" ")} ${width},${height}` }),
    h("polyline.line", { points: points.join(" ") }));
}

/** Columns, e.g. one a minute. */
export function columns(values, { width = 240, height = 40, tone = "mark", label = "" } = {}) {
  const most = Math.max(1, ...values);
  const step = width / values.length;
  return h("svg.columns", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label, class: `tone-${tone}` },
    values.map((value, place) => {
      const tall = value ? Math.max(2, (value / most) * height) : 1;
      return h("rect", { class: value ? "bar" : "bar none", x: (place * step).toFixed(2), y: (height - tall).toFixed(2), width: (step * 0.72).toFixed(2), height: tall.toFixed(2), rx: 0.8 });
    }));
}

/** A bar that fills up to a limit, with a mark at the limit when the value goes beyond it. */
export function meter(value, limit, label) {
  const most = Math.max(limit, value) * (value > limit ? 1.05 : 1.25) || 1;
  const share = (part) => `${((part / most) * 100).toFixed(1)}%`;
  const tone = value > limit ? "bad" : value > limit * 0.7 ? "busy" : "good";
  return h("div.meter", { role: "img", "aria-label": label, class: tone }, h("i.fill", { "--size": share(value) }), h("i.limit", { "--size": share(limit) }));
}

/** Requests of each step as stacked columns, and over it the two lines of the answering time. */
export function requests(traffic, width) {
  const [tall, low, gap] = [192, 96, 24];
  const count = traffic.good.length;
  const step = width / count;
  const totals = traffic.good.map((value, place) => value + traffic.refused[place] + traffic.failed[place]);
  const most = nice(Math.max(4, ...totals));
  const slow = nice(Math.max(20, ...traffic.p95.map((value) => value ?? 0)));
  const summary = `${number(totals.reduce((sum, value) => sum + value, 0))} requests in a quarter of an hour, at most ${Math.max(...totals)} in ${traffic.step} seconds`;
  return h("svg.requests", { viewBox: `0 0 ${width} ${tall + gap + low + 20}`, width, height: tall + gap + low + 20, role: "img", "aria-label": summary },
    [0.5, 1].map((share) => [rule(tall - share * (tall - 14), width), label(0, tall - share * (tall - 14) - 4, `${number(most * share)}${share === 1 ? ` requests in ${traffic.step} s` : ""}`)]),
    rule(tall, width),
    totals.map((total, place) => column(traffic, place, step, tall, most)),
    h("g", [1].map(() => [rule(tall + gap + 8, width), label(0, tall + gap + 4, `${milliseconds(slow)}  answering time: 95 % and half of the requests`)]), rule(tall + gap + low, width)),
    curve(traffic.p95, step, tall + gap + low, low - 8, slow, "late"),
    curve(traffic.p50, step, tall + gap + low, low - 8, slow, "usual"),
    ["15 minutes ago", "10", "5", "now"].map((text, place) => label((place / 3) * width, tall + gap + low + 15, text, place === 0 ? "start" : place === 3 ? "end" : "middle")));
}

function column(traffic, place, step, tall, most) {
  let floor = tall;
  const parts = ["good", "refused", "failed"].map((kind) => {
    const value = traffic[kind][place];
    if (!value) return null;
    const size = Math.max(1.5, (value / most) * (tall - 14));
    floor -= size;
    return h("rect", { class: kind, x: (place * step + step * 0.12).toFixed(2), y: floor.toFixed(2), width: Math.max(1, step * 0.76).toFixed(2), height: size.toFixed(2) });
  });
  const told = `${traffic.good[place]} good, ${traffic.refused[place]} refused (4xx), ${traffic.failed[place]} failed (5xx)`;
  return h("g", parts, h("rect.catch", { x: (place * step).toFixed(2), y: 0, width: step.toFixed(2), height: tall },
    h("title", `${new Date((traffic.end - (traffic.good.length - place) * traffic.step) * 1000).toLocaleTimeString()}: ${told}, 95 % within ${milliseconds(traffic.p95[place])}`)));
}

/** A line with gaps where nothing was measured; a point that stands alone is a dot. */
function curve(values, step, floor, tall, most, kind) {
  const runs = [];
  values.forEach((value, place) => {
    if (value === null) return;
    const point = [(place + 0.5) * step, floor - (value / most) * tall];
    if (place && values[place - 1] !== null) runs.at(-1).push(point);
    else runs.push([point]);
  });
  return h("g.curve", { class: kind }, runs.map((run) => (run.length === 1
    ? h("circle", { cx: run[0][0].toFixed(1), cy: run[0][1].toFixed(1), r: 2 })
    : h("polyline", { points: run.map((point) => point.map((part) => part.toFixed(1)).join()).join(" ") }))));
}

const rule = (y, width) => h("line.rule", { x1: 0, x2: width, y1: y, y2: y });
const label = (x, y, text, anchor = "start") => h("text", { x: x.toFixed(1), y, "text-anchor": anchor }, text);

/** The next number that a person would put on an axis. */
export function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value);
}
