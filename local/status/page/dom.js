// Making elements, changing them in place, and words for numbers. Whatever comes from the stack is set as text.
const SVG = "http://www.w3.org/2000/svg";
const SHAPES = new Set(["svg", "g", "path", "rect", "circle", "line", "polyline", "polygon", "title", "text", "defs", "linearGradient", "stop"]);

/** An element: `h("p.note#id", {attribute: value}, child, …)`; false, null and undefined are left out. */
export function h(name, ...rest) {
  const [, tag, marks] = /^([a-zA-Z0-9]+)(.*)$/.exec(name);
  const made = SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const mark of marks.match(/[.#][^.#]+/g) ?? []) {
    if (mark[0] === "#") made.id = mark.slice(1);
    else made.classList.add(mark.slice(1));
  }
  const plain = rest[0] && Object.getPrototypeOf(rest[0]) === Object.prototype;
  for (const [key, value] of Object.entries(plain ? rest.shift() : {})) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "class") made.classList.add(...String(value).split(" ").filter(Boolean));
    else if (key.startsWith("--")) made.style.setProperty(key, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...rest.flat(Infinity).filter((each) => each !== false && each !== null && each !== undefined));
  return made;
}

/** Make `old` look like `fresh` with as few changes as possible: focus, scroll and hover stay where they are. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return undefined;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "style" && name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style && old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  return old.dataset?.own === undefined ? children(old, [...fresh.childNodes]) : undefined;
}

function children(old, wanted) {
  const keyed = new Map([...old.children].filter((each) => each.dataset.key).map((each) => [each.dataset.key, each]));
  wanted.forEach((fresh, place) => {
    const there = old.childNodes[place];
    const known = fresh.dataset?.key ? keyed.get(fresh.dataset.key) : there?.dataset?.key ? undefined : there;
    if (!known) return old.insertBefore(fresh, there ?? null);
    if (known !== there) old.insertBefore(known, there ?? null);
    return morph(known, fresh);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

/** Put content into an element of the page; one with `data-own` is left alone when what it stands in is drawn again. */
export function fill(id, ...content) {
  const there = document.getElementById(id);
  const fresh = there.cloneNode(false);
  fresh.append(...content.flat(Infinity).filter(Boolean));
  children(there, [...fresh.childNodes]);
}

let offset = 0;
/** The stack's clock may differ from the browser's. */
export const clock = { set: (now) => { offset = now - Date.now() / 1000; }, now: () => Date.now() / 1000 + offset };

/** Seconds since 1970 of a number, or of a moment as PostgreSQL writes it. */
export const moment = (value) => (value === null || value === undefined ? null : typeof value === "number" ? value : Date.parse(value) / 1000);

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const size = Math.abs(seconds);
  if (size < 0.001) return "0 ms";
  if (size < 1) return `${Math.round(size * 1000)} ms`;
  if (size < 10) return `${Number(size.toFixed(1))} s`;
  if (size < 100) return `${Math.round(size)} s`;
  if (size < 5400) return `${Math.round(size / 60)} min`;
  if (size < 129600) return `${Math.round(size / 3600)} h`;
  return `${Math.round(size / 86400)} days`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? duration(value / 1000) : value >= 10 ? `${Math.round(value)} ms` : `${Number(value.toFixed(value < 1 ? 2 : 1))} ms`;
}

export function bytes(value) {
  const power = value ? Math.min(3, Math.floor(Math.log2(value) / 10)) : 0;
  const shown = value / 1024 ** power;
  return `${shown >= 10 || !power ? Math.round(shown) : shown.toFixed(1)} ${["B", "KB", "MB", "GB"][power]}`;
}

export const number = (value) => Number(value ?? 0).toLocaleString("en-GB");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const short = (id) => String(id ?? "").slice(0, 8);

/** A moment that goes on being true: "5 s ago", "in 3 min", "for 2 h". */
export function when(value, kind = "ago") {
  const at = moment(value);
  if (at === null) return h("span.soft", "never");
  const made = h("time", { "data-at": at, "data-kind": kind, datetime: new Date(at * 1000).toISOString(), title: new Date(at * 1000).toLocaleString() });
  made.textContent = spoken(at, kind);
  return made;
}

function spoken(at, kind) {
  const away = clock.now() - at;
  if (kind === "for") return duration(Math.max(0, Math.round(away)) || 0.0004).replace(/^0 ms$/, "0 s");
  if (away < -0.5) return `in ${duration(Math.round(-away))}`;
  return away < 1.5 ? "now" : `${duration(Math.round(away))} ago`;
}

/** Let the moments of the page go on. */
export function tick() {
  for (const each of document.querySelectorAll("time[data-at]")) {
    const text = spoken(Number(each.dataset.at), each.dataset.kind);
    if (each.textContent !== text) each.textContent = text;
  }
}

/** A heading with what stands beside it. */
export const heading = (id, text, ...beside) => h("div.heading", { "data-key": "heading" }, h(`h2#h-${id}`, text), ...beside);

export const nothing = (text) => h("p.nothing", text);
