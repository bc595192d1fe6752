
const given = new URLSearchParams(location.hash.slice(1));
const id = given.get("id"), receipt = given.get("receipt");
const part = (name) => document.getElementById(name);
const STATES = {
  scheduled: "It is scheduled, and can still be called off.",
  awaiting_approval: "It waits for the approval of the organization.",
  running: "It is under way.",
  completed: "It is complete.",
  failed: "It failed, and is tried again by itself.",
  cancelled: "It was called off. Nothing was erased.",
  refused: "It was refused for now. Nothing was erased.",
};
const STEPS = {
  plan: "Plan", freeze: "Nobody works with the data any more", revoke: "Log-ins and keys ended",
  organizations: "Parts in organizations begun", rows: "Rows erased", objects: "Files erased",
  account: "Account erased", children: "Parts in organizations done", processors: "Processors told",
  scan: "Searched once more", certificate: "Certificate signed", notify: "Mail with the receipt",
};
const moment = (text) => text ? new Date(text).toLocaleString(undefined, {dateStyle: "long", timeStyle: "short"}) : "";
function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) { made.className = kind; }
}
function steps(found) {
  for (const step of found.steps) {
    const row = part("steps").insertRow();
    cell(row, STEPS[step.name] || step.name);
    cell(row, step.status, step.status);
    cell(row, moment(step.at));
  }
}
function kept(found) {
  part("kept").hidden = found.retained.length === 0;
  for (const entry of found.retained) {
    const row = part("retained").insertRow();
    cell(row, entry.table);
    cell(row, String(entry.rows), "number");
    cell(row, entry.ground);
    cell(row, /^\d{4}-\d\d-\d\dT/.test(entry.until) ? moment(entry.until) : entry.until);
  }
}
async function proof(found) {
  if (!found.certificate) { return; }
  part("proof").hidden = false;
  part("certificate").textContent = JSON.stringify(found.certificate, null, 2);
  const answer = await fetch("/v1/deletions/certificate-keys", {credentials: "omit"});
  const key = answer.ok ? (await answer.json()).keys[found.certificate.key_id] : undefined;
  if (key) { part("key").textContent = key; }
}
async function show() {
  if (!id || !receipt) {
    part("state").textContent = "This address is not complete: open the link of the mail again.";
    return;
  }
  const address = "/v1/deletions/" + encodeURIComponent(id) + "/status?receipt=" + encodeURIComponent(receipt);
  const answer = await fetch(address, {credentials: "omit"});
  if (answer.status === 404 || answer.status === 422) {
    part("state").textContent = "There is no erasure of this number and receipt.";
    return;
  }
  if (!answer.ok) { throw new Error("not now"); }
  const found = await answer.json();
  part("state").textContent = STATES[found.status] || found.status;
  part("state").className = "state " + found.status;
  const begins = found.status === "scheduled" ? " It begins on " + moment(found.execute_after) + "." : "";
  part("facts").textContent = "Erasure " + found.id + ", received on " + moment(found.received_at) + "." + begins;
  if (found.refusal) {
    part("why").hidden = false;
    part("why").textContent = "Reason: " + found.refusal.reason + ". Your rights: " + found.refusal.rights;
  }
  if (found.followed_by) {
    part("next").hidden = false;
    part("link").href = "/deletion#id=" + encodeURIComponent(found.followed_by) + "&receipt=" + encodeURIComponent(receipt);
  }
  part("details").hidden = false;
  steps(found);
  kept(found);
  await proof(found);
}
addEventListener("hashchange", () => location.reload());
show().catch(() => { part("state").textContent = "The service cannot be reached; try again later."; });
