// Making elements, and writing figures.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "path", "line"]);

/** An element. `on…` are listeners, `vars` are CSS properties (set by script, which the policy
 * allows), all else are attributes; empty values are left out. */
export function h(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") {
      for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    } else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Sets the text only when it changes: a screen reader is told of no change that is none. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const announce = (text) => say(byId("announcer"), text);

const NONE = "–";
const isNone = (value) => value === null || value === undefined;

export const count = (value) => (isNone(value) ? NONE : Math.round(value).toLocaleString("en"));

/** Three significant digits, without an exponent. */
export function figure(value) {
  if (isNone(value)) return NONE;
  if (Math.abs(value) >= 1000) return count(value);
  return value === 0 ? "0" : Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3, minimumSignificantDigits: 3 });
}

export function seconds(value) {
  if (isNone(value)) return NONE;
  if (value === 0) return "0 s";
  if (value < 9.995e-4) return `${figure(value * 1e6)} µs`;
  if (value < 0.9995) return `${figure(value * 1e3)} ms`;
  if (value < 120) return `${figure(value)} s`;
  if (value < 7200) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

export function bytes(value) {
  if (isNone(value)) return NONE;
  const [unit, name] = value >= 1e9 ? [1e9, "GB"] : value >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${figure(value / unit)} ${name}`;
}

export const percent = (value) => (isNone(value) ? NONE : `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`);

export const interval = (value) => (isNone(value) ? NONE : `${seconds(value.low)} to ${seconds(value.high)}`);

/** A moment as the reader's clock shows it; the date only when it is not today's. */
export function moment(text) {
  if (isNone(text)) return NONE;
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const shown = at.toLocaleTimeString("en-GB");
  return h("time", { datetime: text }, today ? shown : `${at.toLocaleDateString("en-CA")} ${shown}`);
}

/** A list of names and values; `pairs` whose value is empty are left out. */
export const pairs = (entries, name = "facts") =>
  h("dl", { class: name }, entries.filter(([, value]) => !isNone(value) && value !== NONE && value !== "")
    .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));

/** A table that scrolls by itself when there is no room. `columns` are [title, class]; a row is a
 * list of cells, the first of which names it. */
export function table(caption, columns, rows, name = "") {
  const head = columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title));
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, i) =>
    h(i ? "td" : "th", { scope: i ? null : "row", class: columns[i][1] }, cell))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", { class: name }, h("caption", {}, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

/** A command, and a button that copies it, or marks it where the browser lets nothing be copied. */
export function command(text, title = "The same by curl") {
  const code = h("pre", { tabindex: 0, role: "region", "aria-label": title }, h("code", {}, text));
  const button = h("button", { type: "button", class: "quiet", onclick: copy }, "Copy curl");
  async function copy() {
    const said = (await copied(text, code)) ? "Copied" : "Marked: copy it with Ctrl+C";
    say(button, said);
    announce(said);
    setTimeout(() => say(button, "Copy curl"), 2000);
  }
  return h("div", { class: "command" }, h("div", { class: "line" }, h("h3", {}, title), button), code);
}

async function copied(text, node) {
  try {
    await navigator.clipboard.writeText(text); // absent where the page is not served securely
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    try {
      return document.execCommand("copy");
    } catch {
      return false;
    }
  }
}

/** Asks before something is removed. */
export function confirmed(question) {
  const dialog = byId("confirm");
  say(byId("confirm-text"), question);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((answer) =>
    dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

/** What the service says is wrong. */
export const problemBox = (problem) =>
  h("div", { class: "problem", role: "alert" }, h("strong", {}, problem.title), h("p", {}, problem.detail));
