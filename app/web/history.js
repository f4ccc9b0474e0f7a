// The tasks that are kept: filtered, page by page, and removed.

import { ask, description, Problem, TASKS } from "./api.js";
import { announce, confirmed, count, h, moment, problemBox, seconds, table } from "./dom.js";
import { badge, nameOf } from "./live.js";

const LIMIT = 20;

const took = (task) => task.start_time && task.end_time ? seconds((new Date(task.end_time) - new Date(task.start_time)) / 1000) : "–";

/** The view; `query` is what its address asks for. */
export async function historyView(query) {
  const asked = new URLSearchParams(query);
  const offset = Number(asked.get("offset") ?? 0);
  const filters = (await filterNames()).map(({ name, values }) => h("div", { class: "field" },
    h("label", { for: `filter-${name}` }, name[0].toUpperCase() + name.slice(1)),
    h("select", { id: `filter-${name}`, onchange: (event) => go({ [name]: event.target.value, offset: "" }, event.target.id) },
      h("option", { value: "" }, "any"), values.map((value) => h("option", { value, selected: asked.get(name) === value }, value)))));
  const node = h("div", {}, h("h2", { tabindex: -1 }, "History"), h("div", { class: "fields filters" }, filters));
  asked.set("limit", LIMIT);
  try {
    node.append(...list(await ask("GET", `${TASKS}/results`, { query: asked })));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    node.append(problemBox(error));
  }
  return node;

  function go(changes, focused) {
    const next = new URLSearchParams(query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === "") next.delete(name);
      else next.set(name, value);
    }
    sessionStorage.setItem("focus", focused);
    location.hash = next.size ? `#history?${next}` : "#history";
  }

  function list(page) {
    const last = offset + page.items.length;
    const rows = page.items.map((task) => [
      h("a", { href: `#task/${task.task_id}` }, nameOf(task)), badge(task.status), moment(task.created_at),
      count(task.total_items), took(task), h("code", {}, task.task_id),
    ]);
    const range = page.items.length ? `${count(offset + 1)}–${count(last)} of ${count(page.total)} tasks, newest first` : "No task matches";
    return [
      page.items.length ? table(range, [["Task"], ["State"], ["Accepted"], ["Items", "number"], ["Took", "number"], ["Id", "less"]], rows)
        : h("p", { class: "none" }, range),
      h("div", { class: "actions" },
        h("button", { type: "button", id: "newer", class: "quiet", disabled: offset === 0, onclick: () => go({ offset: String(Math.max(0, offset - LIMIT) || "") }, "newer") }, "Newer"),
        h("button", { type: "button", id: "older", class: "quiet", disabled: last >= page.total, onclick: () => go({ offset: String(offset + LIMIT) }, "older") }, "Older"),
        h("button", { type: "button", id: "clear", class: "danger", onclick: clear }, "Remove finished tasks")),
    ];
  }

  async function clear() {
    if (!(await confirmed("Remove all finished tasks, with every result that they have? Running ones stay."))) return;
    try {
      const { deleted } = await ask("DELETE", `${TASKS}/results`);
      announce(`${count(deleted)} tasks are removed`);
      sessionStorage.setItem("focus", "clear");
      if (location.hash === "#history") window.dispatchEvent(new HashChangeEvent("hashchange"));
      else location.hash = "#history";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      node.append(problemBox(error));
    }
  }
}

/** What the list can be filtered by: fields of its query with a closed list of words. */
async function filterNames() {
  const api = await description();
  const { parameters } = api.paths[`${TASKS}/results`].get;
  return parameters.flatMap(({ name, schema }) => {
    const choice = (schema.anyOf ?? [schema]).find((one) => one.$ref);
    const values = choice && api.components.schemas[choice.$ref.split("/").pop()].enum;
    return values ? [{ name, values }] : [];
  });
}
