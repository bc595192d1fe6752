// Exports and erasures with their steps, and the executions of workflows that do the work.
import { bytes, duration, h, heading, moment, nothing, number, plural, short, when } from "./dom.js";
import { sign } from "./services.js";

const WORDS = { queued: "waits", running: "runs", done: "done", failed: "failed", cancelled: "called off" };
const TONES = { queued: "busy", running: "work", done: "good", failed: "bad", cancelled: "idle" };
const SCOPES = { me: "of the person who asked", user: "of a person", organization: "of an organization" };
const ENDED = ["done", "failed", "cancelled"];

/** The steps of a job, each with its status; an export tells them by what it has reached. */
export function steps(job) {
  if (job.kind === "deletion") return (job.steps ?? []).map((step) => ({ ...step, label: step.name, note: step.rows ? plural(step.rows, "row") : "" }));
  const { progress_done: done, progress_total: total } = job;
  const copied = total > 0 && done >= total;
  const reached = [total > 0, copied, job.assembled, job.mailed, job.status === "done"];
  const here = reached.indexOf(false);
  return ["plan", "parts", "assemble", "mail", "finish"].map((name, place) => ({
    name,
    label: name === "parts" && total > 0 ? `${done} of ${total} parts` : name,
    note: name === "assemble" && job.size_bytes ? bytes(job.size_bytes) : "",
    share: name === "parts" && total > 0 ? done / total : null,
    status: reached[place] ? "done" : job.status === "failed" && place === here ? "failed" : job.status === "running" && place === here ? "running" : "pending",
  }));
}

function pipeline(job) {
  const parts = steps(job);
  const active = parts.find((step) => step.status === "failed") ?? parts.find((step) => step.status === "running") ?? (job.status === "running" ? parts.find((step) => step.status === "pending") : null);
  return h("ol.pipeline", parts.map((step) => {
    const status = step === active && step.status === "pending" ? "running" : step.status;
    return h("li", { class: `${status}${step === active ? " here" : ""}`, title: `${step.label}: ${status}${step.note ? `, ${step.note}` : ""}`, "aria-current": step === active ? "step" : null },
      h("i.knot", { "aria-hidden": "true", "--share": step.share === null || step.share === undefined ? null : step.share }), h("span.label", step.label), h("span.hidden", status), step.note && h("small", step.note));
  }));
}

function waiting(job) {
  if (job.unapproved) return h("span.chip.busy", "awaits a second pair of eyes");
  if (job.status === "queued" && moment(job.execute_after) > Date.now() / 1000) return h("span.chip.busy", "starts ", when(job.execute_after));
  return job.stalls > 0 && !ENDED.includes(job.status) ? h("span.chip.bad", `no progress ${plural(job.stalls, "time")} in a row`) : null;
}

function card(job, workflows) {
  const execution = workflows.find((each) => each.job === job.id && each.trace);
  const title = `${job.kind === "export" ? "Export" : "Erasure"} ${SCOPES[job.scope] ?? ""}`;
  const lasted = moment(job.finished_at) - moment(job.queued_at);
  return h("article.job", { "data-key": job.id, class: job.status },
    h("header", sign(TONES[job.status]), h("h3", title), h("code", short(job.id)), h("span.chip", { class: TONES[job.status] }, WORDS[job.status]), waiting(job),
      h("span.end", job.finished_at ? `took ${duration(lasted)}, ` : "asked for ", when(job.finished_at ?? job.queued_at))),
    pipeline(job),
    h("footer", job.error && h("span.error", job.error), job.attempts > 1 && h("span", `${job.attempts} executions`), job.scan_places !== null && job.scan_places !== undefined && h("span", `searched ${plural(job.scan_places, "place")}, found ${number(job.scan_hits)}`),
      job.certified && h("span", "certificate signed"), job.parent_id && h("span", "part of ", h("code", short(job.parent_id))), !ENDED.includes(job.status) && job.due_at && h("span", "due ", when(job.due_at)),
      execution && h("button.plain", { type: "button", "data-act": "trace", "data-id": execution.trace }, "its trace")));
}

function execution(each, longest) {
  const tone = { ACTIVE: "work", SUCCEEDED: "good" }[each.state] ?? "bad";
  const lasted = each.ended ? each.ended - each.started : null;
  return h("li", { "data-key": each.id },
    sign(tone, each.state.toLowerCase()), h("span.what", h("b", each.workflow), h("code", short(each.job))),
    h("span.bar", { "aria-hidden": "true" }, h("i", { class: tone, "--size": `${Math.max(2, ((lasted ?? longest) / longest) * 100).toFixed(1)}%` })),
    h("span.took", lasted === null ? plural(each.calls, "answer") : duration(lasted)),
    h("span.how", each.state === "ACTIVE" ? "under way" : each.error ? each.error.split("\n")[0] : `returned ${JSON.stringify(each.result)}`), h("span.end", when(each.ended ?? each.started)));
}

export function jobs(state) {
  const rows = state.records?.jobs ?? [];
  const workflows = state.executions ?? [];
  const open = rows.filter((job) => !ENDED.includes(job.status)).length;
  const sorted = [...rows].sort((a, b) => ENDED.includes(a.status) - ENDED.includes(b.status) || moment(b.queued_at) - moment(a.queued_at));
  const longest = Math.max(0.1, ...workflows.map((each) => (each.ended ?? each.started) - each.started));
  return [
    heading("jobs", "Exports and erasures", h("p.beside", open ? `${open} under way` : "none under way")),
    h("div.split", { "data-key": "split" },
      h("div.cards", rows.length ? sorted.slice(0, 8).map((job) => card(job, workflows)) : nothing("Nobody has asked for an export or an erasure yet.")),
      h("div.panel", h("h3", "Executions of workflows"), workflows.length ? h("ul.executions", workflows.slice(0, 12).map((each) => execution(each, longest))) : nothing("No workflow has run yet."))),
  ];
}
