// Tasks that are not at their end, and those that came to it while the page was open.

import { ask, connection, follow, hasEnded, poll, Problem, TASKS } from "./api.js";
import { announce, byId, count, figure, h, problemBox, say, seconds } from "./dom.js";

const BUSY_MS = 2000;
const IDLE_MS = 5000;
const KEPT = 5;

// A browser has six connections to a server for all its tabs. Two tasks are followed by their
// events, and the others asked for now and then.
const STREAMS = 2;

const cards = new Map();
const following = new Map();
let polling;

/** Tells `task`, with a task's progress as its detail. */
export const progress = new EventTarget();

export const refreshLive = () => polling?.now();

export function startLive() {
  showNone();
  polling = poll(refresh, () => ([...cards.values()].some((card) => !hasEnded(card.task)) ? BUSY_MS : IDLE_MS));
  document.addEventListener("visibilitychange", stream);
  connection.addEventListener("lost", () => byId("live").classList.add("stale"));
  connection.addEventListener("found", () => byId("live").classList.remove("stale"));
}

async function refresh() {
  const pages = await Promise.all(["running", "pending"].map((status) =>
    ask("GET", `${TASKS}/results`, { query: `status=${status}&limit=50` })));
  const tasks = pages.flatMap((page) => page.items).sort((a, b) => (a.created_at < b.created_at ? -1 : 1));
  const seen = new Set(tasks.map((task) => task.task_id));
  for (const task of tasks) note(task);
  const gone = [...cards.values()].filter(({ task }) => !hasEnded(task) && !seen.has(task.task_id));
  for (const { task } of gone) {
    try {
      note(await ask("GET", `${TASKS}/status/${task.task_id}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      drop(task.task_id);
    }
  }
  stream();
}

/** A task as the service has just told it; the newest news wins. */
export function note(news) {
  const id = news.task_id;
  const card = cards.get(id);
  if (!card) {
    if (!hasEnded(news)) add(news);
  } else {
    const task = { ...card.task, ...news };
    if (hasEnded(task) && !hasEnded(card.task)) announce(`${nameOf(task)} is ${task.status}`);
    card.task = task;
    card.update(task);
    tidy();
  }
  progress.dispatchEvent(new CustomEvent("task", { detail: card?.task ?? news }));
}

function add(task) {
  const body = progressBlock(task, () => drop(task.task_id));
  const title = h("h3", {}, h("a", { href: `#task/${task.task_id}` }, nameOf(task)));
  const card = { task, update: body.update, node: h("article", { class: "card" }, title, body.node) };
  if (!cards.size) byId("live").replaceChildren();
  cards.set(task.task_id, card);
  byId("live").prepend(card.node);
}

function drop(id) {
  cards.get(id)?.node.remove();
  cards.delete(id);
  if (!cards.size) showNone();
}

function tidy() {
  const ended = [...cards.values()].filter((card) => hasEnded(card.task) && !card.node.contains(document.activeElement));
  for (const card of ended.slice(0, Math.max(0, ended.length - KEPT))) drop(card.task.task_id);
}

const showNone = () => byId("live").replaceChildren(h("p", { class: "none" }, "Nothing is running."));

function stream() {
  const open = document.hidden ? [] : [...cards.values()].filter((card) => !hasEnded(card.task)).slice(-STREAMS);
  const wanted = new Set(open.map((card) => card.task.task_id));
  for (const [id, control] of following) {
    if (!wanted.has(id)) {
      control.abort();
      following.delete(id);
    }
  }
  for (const id of wanted) {
    if (following.has(id)) continue;
    const control = new AbortController();
    following.set(id, control);
    follow(id, note, control.signal).finally(() => {
      if (following.get(id) === control) following.delete(id);
    });
  }
}

export function nameOf(task) {
  return task.kind === "comparison" ? "Comparison" : [task.strategy, task.kernel].filter(Boolean).join(" × ") || "Task";
}

export const badge = (status) => h("span", { class: `badge ${status}` }, status);

/** State, bar, figures, and the buttons that the state allows; `update` with newer news. */
export function progressBlock(task, dismiss) {
  const state = h("span", { class: "state" });
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${nameOf(task)}` });
  const figures = h("p", { class: "figures" });
  const place = h("p", { class: "hint" });
  const fault = h("div", {});
  const act = (text, kind, method, path) => h("button", { type: "button", class: kind, async onclick() {
    fault.replaceChildren();
    this.setAttribute("aria-busy", "true");
    try {
      note(await ask(method, `${TASKS}/${task.task_id}${path}`));
      refreshLive();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fault.replaceChildren(problemBox(error));
    } finally {
      this.removeAttribute("aria-busy");
    }
  } }, text, h("span", { class: "hidden" }, ` ${nameOf(task)}`));
  const cancel = act("Cancel", "quiet", "DELETE", "");
  const resume = act("Resume", "quiet", "POST", "/resume");
  const close = dismiss && h("button", { type: "button", class: "quiet", onclick: dismiss }, "Dismiss");
  const buttons = h("div", { class: "actions" }, cancel, resume, close);

  function update(now) {
    const ended = hasEnded(now);
    if (state.firstChild?.textContent !== now.status) state.replaceChildren(badge(now.status));
    bar.value = now.progress;
    bar.classList.toggle("over", ended);
    say(figures, [
      `${count(now.items_processed)} of ${count(now.total_items)}`,
      now.throughput_items_per_second && `${figure(now.throughput_items_per_second)} items/s`,
      now.estimated_remaining_seconds !== null && !ended && `${seconds(now.estimated_remaining_seconds)} left`,
    ].filter(Boolean).join(" · "));
    say(place, [
      now.node && `on ${now.node}`,
      now.attempts > 1 && `begun ${now.attempts} times`,
      now.shards?.total > 1 && `${now.shards.completed} of ${now.shards.total} shards`,
      now.error_message,
    ].filter(Boolean).join(" · "));
    // The button that has the focus must not vanish under it.
    const had = buttons.contains(document.activeElement);
    cancel.hidden = ended;
    resume.hidden = !["failed", "cancelled"].includes(now.status) || now.task_type === "synchronous";
    if (close) close.hidden = !ended;
    if (had && document.activeElement.hidden) buttons.querySelector("button:not([hidden])")?.focus();
  }

  update(task);
  return { node: h("div", { class: "progress" }, h("div", { class: "line" }, state, bar), figures, place, fault, buttons), update };
}
