"use strict";
// The inbox page. Whatever comes from a mail is set as text, or shown in a frame that runs no scripts.
const list = document.getElementById("list");
const article = document.getElementById("mail");
const count = document.getElementById("count");
let shown = "";
let chosen = null;
let html = false;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function linked(text) {
  const block = element("pre");
  for (const piece of text.split(/(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]])/)) {
    if (/^https?:\/\//.test(piece)) {
      block.append(element("a", piece, { href: piece, target: "_blank", rel: "noopener noreferrer" }));
    } else {
      block.append(piece);
    }
  }
  return block;
}

function frame(id) {
  return element("iframe", "", {
    title: "HTML part",
    sandbox: "allow-popups allow-popups-to-escape-sandbox",
    src: `/messages/${encodeURIComponent(id)}/html`,
  });
}

function tools(mail) {
  const bar = element("div", "", { class: "tools" });
  for (const [label, wanted] of [["Text", false], ["HTML", true]]) {
    if (!(wanted ? mail.html : mail.text)) continue;
    const button = element("button", label, { type: "button", "aria-pressed": String(wanted === html) });
    button.onclick = () => { html = wanted; show(mail); article.querySelector("[aria-pressed=true]").focus(); };
    bar.append(button);
  }
  const remove = element("button", "Delete", { type: "button", class: "delete" });
  remove.onclick = async () => {
    await fetch(`/messages/${encodeURIComponent(mail.id)}`, { method: "DELETE" });
    chosen = null;
    article.replaceChildren(element("p", "Deleted.", { class: "empty" }));
    await refresh();
    (list.querySelector("button") ?? document.querySelector("h1")).focus();
  };
  bar.append(remove);
  return bar;
}

function show(mail) {
  const facts = element("dl");
  for (const [label, value] of [["From", mail.from], ["To", mail.to], ["Date", mail.date]]) {
    facts.append(element("dt", label), element("dd", value));
  }
  const body = html ? frame(mail.id) : linked(mail.text);
  article.replaceChildren(element("h2", mail.subject || "(no subject)"), facts, tools(mail), body);
}

async function open(id) {
  const answer = await fetch(`/messages/${encodeURIComponent(id)}`);
  if (!answer.ok) return refresh();
  const mail = await answer.json();
  chosen = id;
  html = html ? Boolean(mail.html) : !mail.text;
  show(mail);
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.id === id));
}

function row(mail) {
  const button = element("button", "", { type: "button", "data-id": mail.id, "aria-current": String(mail.id === chosen) });
  button.append(element("strong", mail.subject || "(no subject)"), element("span", mail.to), element("span", mail.date));
  button.onclick = () => open(mail.id);
  const item = element("li");
  item.append(button);
  return item;
}

async function refresh() {
  try {
    const messages = await (await fetch("/messages?limit=200")).json();
    const state = messages.map((mail) => mail.id).join();
    count.textContent = messages.length === 1 ? "1 message" : `${messages.length} messages`;
    if (state === shown) return;
    shown = state;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : "";
    list.replaceChildren(...messages.map(row));
    if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  } catch {
    count.textContent = "The inbox does not answer; trying again…";
  }
}

refresh();
setInterval(refresh, 2000);
