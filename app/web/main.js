// The page: which view is shown, and whether the service is there.

import { ask, connection, Problem } from "./api.js";
import { byId, h, say } from "./dom.js";
import { formView } from "./forms.js";
import { historyView } from "./history.js";
import { refreshLive, startLive } from "./live.js";
import { problemView, taskView } from "./task.js";
import { startVitals } from "./vitals.js";

let close = () => {};
let shown = 0;
let isFirst = true;
let failed = false;

/** The view that the address names. */
async function show() {
  const turn = ++shown;
  const [name, rest = ""] = (location.hash.slice(1) || "run").split(/[/?](.*)/s);
  let view;
  try {
    view = await made(name, rest);
    failed = false;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failed = error.status === 0;
    view = { node: problemView(error) };
  }
  if (turn !== shown) return view.close?.();
  close();
  close = view.close ?? (() => {});
  byId("view").replaceChildren(view.node);
  const title = view.node.querySelector("h2");
  document.title = `${title.textContent} · Hotloop`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const focused = sessionStorage.getItem("focus");
  sessionStorage.removeItem("focus");
  const target = focused && byId(focused);
  // Who has just opened the page begins at its top.
  if (!isFirst) (target && !target.disabled ? target : title).focus();
  isFirst = false;
  return undefined;
}

async function made(name, rest) {
  if (name === "task") return taskView(rest);
  if (name === "history") return { node: await historyView(rest) };
  if (["run", "compare", "recommend"].includes(name)) return { node: await formView(name) };
  return { node: h("div", {}, h("h2", { tabindex: -1 }, "Nothing here"), h("p", {}, "There is no such view.")) };
}

connection.addEventListener("lost", () => {
  say(byId("connection"), "The connection to the service is lost. Trying again …");
  document.body.classList.add("lost");
});
connection.addEventListener("found", () => {
  say(byId("connection"), "");
  document.body.classList.remove("lost");
  refreshLive();
  if (failed) show();
});

window.addEventListener("hashchange", show);
show();
startLive();
startVitals();
ask("GET", "/health").then(({ version }) => say(byId("version"), `version ${version}`), (error) => {
  if (!(error instanceof Problem)) throw error;
});
