// The forms: a run, a comparison, a recommendation. What is entered in one is there in the others.

import { ask, description, Problem, TASKS } from "./api.js";
import { announce, command, figure, h, problemBox, table } from "./dom.js";
import { fieldsOf, makeChoices, makeField, queryFields } from "./fields.js";
import { refreshLive } from "./live.js";
import { showRecommendation } from "./recommendation.js";

const GROUPS = [
  ["Database and cache", /^(db|cache|query_batch_size|simulate|redis|io_)/],
  ["Workload", /^(workload|parameters|cpu_iterations|outer_iterations|inner_iterations)/],
  ["Limits and more", /./],
];

const FORMS = {
  run: {
    title: "Run", lead: "Starts a background task: it goes on when this page is closed, and when the service restarts.",
    button: "Start the run", basic: ["items_count", "strategy", "kernel", "workers", "batch_size"],
  },
  compare: {
    title: "Compare", lead: "Measures strategies × kernels side by side, in rounds, on this machine.",
    button: "Start the comparison", basic: ["items_count", "workers", "rounds", "budget_seconds", "strategies", "kernels"],
  },
  recommend: {
    title: "Recommend", lead: "Which way of running it should be the fastest here, by calibration and a cost model.",
    button: "Recommend", basic: ["items_count", "strategy", "kernel", "workers", "batch_size"],
    chosen: ["strategy", "kernel", "workers", "batch_size", "io_concurrency"],
  },
};

const PATHS = { run: `${TASKS}/background`, compare: `${TASKS}/compare`, recommend: `${TASKS}/recommendations` };

/** What was entered, by the last part of a field's name: forms share it. */
const entered = new Map();
const keyOf = (field) => field.name.split(".").pop();

/** The view of one of FORMS. */
export async function formView(kind) {
  const form = FORMS[kind];
  const [api, kernels] = await Promise.all([description(), kernelList()]);
  const known = specsOf(kind, api);
  if (!known) return h("div", {}, h("h2", { tabindex: -1 }, form.title), h("p", {}, "This service does not offer it."));
  const unavailable = unavailableKernels(kernels);
  const fields = known.map((field) => widget(field, kind, api, kernels, unavailable));
  const summary = h("div", { class: "summary" });
  const output = h("div", { class: "output" });
  const curl = h("div", {});
  const button = h("button", { type: "submit", class: "main" }, form.button);
  const node = h("form", { novalidate: true, onsubmit: submit, oninput: note, autocomplete: "off" },
    h("div", { class: "fields" }, form.basic.map((name) => fields.find((f) => f.name === name)?.node)),
    groups(fields.filter((field) => !form.basic.includes(field.name))), summary,
    h("div", { class: "actions" }, button, h("button", { type: "button", class: "quiet", onclick: reset }, "Defaults")), curl);
  for (const field of fields) if (entered.has(keyOf(field))) field.fill(entered.get(keyOf(field)));
  showCurl();

  function reset() {
    for (const field of fields) {
      entered.delete(keyOf(field));
      field.reset();
      field.clear();
    }
    summary.replaceChildren();
    showCurl();
  }

  function note() {
    for (const field of fields) {
      try {
        const value = field.read();
        if (value === undefined) entered.delete(keyOf(field));
        else entered.set(keyOf(field), value);
      } catch {
        // It is told when it is sent.
      }
    }
    showCurl();
  }

  function showCurl() {
    try {
      curl.replaceChildren(command(curlOf(kind, bodyOf(fields))));
    } catch {
      curl.replaceChildren();
    }
  }

  async function submit(event) {
    event.preventDefault();
    if (button.disabled) return;
    for (const field of fields) field.clear();
    summary.replaceChildren();
    button.disabled = true;
    try {
      await sent(kind, bodyOf(fields), output);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      refuse(error, fields, summary);
    } finally {
      button.disabled = false;
    }
  }

  return h("div", {}, h("h2", { tabindex: -1 }, form.title), h("p", { class: "lead" }, form.lead), node, output,
    kind === "run" ? kernelTable(kernels) : null);
}

function specsOf(kind, api) {
  const { schemas } = api.components;
  if (kind === "run") return fieldsOf(schemas.BackgroundRequest, schemas);
  if (kind === "compare") return schemas.CompareRequest && fieldsOf(schemas.CompareRequest, schemas);
  const operation = api.paths[PATHS.recommend]?.get;
  return operation && queryFields(operation, schemas);
}

function widget(field, kind, api, kernels, unavailable) {
  if (field.name === "strategies" || field.name === "kernels") {
    const model = field.name === "kernels" ? "KernelName" : "StrategyName";
    const disabled = field.name === "kernels" ? unavailable : {};
    return makeChoices(field, kind, api.components.schemas[model].enum, disabled);
  }
  const options = field.name === "workload" ? kernels.workloads.map((workload) => workload.name) : undefined;
  return makeField(field, kind, {
    isChosen: FORMS[kind].chosen?.includes(field.name),
    options: options?.length ? options : undefined,
    disabled: field.name === "kernel" ? unavailable : {},
  });
}

function groups(fields) {
  let left = fields;
  return GROUPS.map(([title, pattern]) => {
    const members = left.filter((field) => pattern.test(field.name));
    left = left.filter((field) => !members.includes(field));
    return members.length > 0 && h("details", {}, h("summary", {}, title), h("div", { class: "fields" }, members.map((f) => f.node)));
  });
}

/** Raises Problem for what cannot even be sent. */
function bodyOf(fields) {
  const body = {};
  const errors = [];
  for (const field of fields) {
    try {
      const value = field.read();
      if (value === undefined) continue;
      const way = field.name.split(".");
      const last = way.pop();
      way.reduce((part, key) => (part[key] ??= {}), body)[last] = value;
    } catch (error) {
      errors.push({ field: field.name, message: error.message });
    }
  }
  if (errors.length) throw new Problem(422, { title: "The request is not valid", detail: "nothing was sent", errors });
  return body;
}

const queryOf = (body) =>
  new URLSearchParams(Object.entries(body).flatMap(([key, value]) => [value].flat().map((one) => [key, one])));

function curlOf(kind, body) {
  const url = `${location.origin}${PATHS[kind]}`;
  if (kind === "recommend") {
    const query = String(queryOf(body));
    return `curl -s '${url}${query && `?${query}`}'`;
  }
  const data = JSON.stringify(body).replaceAll("'", "'\\''");
  const prefer = kind === "compare" ? " \\\n  -H 'Prefer: respond-async'" : "";
  return `curl -s ${url}${prefer} \\\n  -H 'Content-Type: application/json' \\\n  -d '${data}'`;
}

async function sent(kind, body, output) {
  if (kind === "recommend") {
    const asked = await ask("GET", PATHS.recommend, { query: queryOf(body) });
    output.replaceChildren(showRecommendation(asked, (choice) => runChoice(body, choice)));
    output.querySelector("h3").focus();
    return;
  }
  const task = await post(kind, body);
  if (kind === "compare") location.hash = `#task/${task.task_id}`;
}

// The same key until there is an answer: a task whose acceptance was not heard of is not begun twice.
let pending = {};

async function post(kind, body) {
  const wanted = JSON.stringify([kind, body]);
  if (pending.wanted !== wanted) {
    const key = Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16)).join("-");
    pending = { wanted, key };
  }
  const headers = { "Idempotency-Key": pending.key, ...(kind === "compare" && { Prefer: "respond-async" }) };
  try {
    const task = await ask("POST", PATHS[kind], { body, headers });
    pending = {};
    announce(`${task.task_id} is accepted`);
    refreshLive();
    return task;
  } catch (error) {
    if (error.status) pending = {};
    throw error;
  }
}

const PARAMETERS = ["cpu_iterations", "outer_iterations", "inner_iterations"];

/** Start a recommended choice, for what was asked. */
async function runChoice(asked, choice) {
  const { limit, refresh, ...body } = asked;
  for (const name of PARAMETERS.filter((name) => name in body)) {
    (body.parameters ??= {})[name] = body[name];
    delete body[name];
  }
  const { strategy, kernel, workers, batch_size, io_concurrency } = choice;
  return post("run", { ...body, strategy, kernel, workers, batch_size, io_concurrency });
}

/** Each message beside its field, those without one above the button; the first one is gone to. */
function refuse(problem, fields, summary) {
  const homeless = [];
  let first;
  for (const fault of problem.errors) {
    const field = fields.find(({ name }) => fault.field === name || fault.field.startsWith(`${name}.`))
      ?? fields.find((one) => keyOf(one) === fault.field);
    if (!field) homeless.push(fault);
    else {
      field.refuse(fault.message);
      const group = field.node.closest("details");
      if (group) group.open = true;
      first ??= field;
    }
  }
  const box = problemBox(problem);
  if (homeless.length) box.append(h("ul", {}, homeless.map((fault) => h("li", {}, `${fault.field}: ${fault.message}`))));
  summary.replaceChildren(box);
  first?.focus();
}

const kernelList = () => ask("GET", `${TASKS}/kernels`).catch((error) => {
  if (!(error instanceof Problem)) throw error;
  return { workloads: [], kernels: [], problem: error };
});

function unavailableKernels({ kernels }) {
  const names = [...new Set(kernels.map((one) => one.kernel))];
  const gone = names.filter((name) => !kernels.some((one) => one.kernel === name && one.available));
  return Object.fromEntries(gone.map((name) => [name, true]));
}

function kernelTable({ kernels, problem }) {
  if (problem) return problemBox(problem);
  const columns = [["Kernel"], ["State"], ["Per item", "number"], ["Instructions", "less"], ["Threads", "less"]];
  return h("section", { class: "apart" }, h("h3", {}, "Kernels here"), table("Kernels, as measured at start", columns, kernels.map((one) => [
    `${one.workload} · ${one.kernel}`,
    one.available ? "available" : h("span", { class: "bad" }, `not available: ${one.reason}`),
    one.ns_per_item === null ? "–" : `${figure(one.ns_per_item / 1000)} µs`,
    one.instruction_set ?? "–",
    one.releases_gil ? "in parallel" : "one at a time",
  ])));
}
