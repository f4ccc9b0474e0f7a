// The forms: a run, a comparison, a recommendation. What is entered in one is there in the others.

import { ask, description, Problem, TASKS } from "./api.js";
import { announce, attempt, command, figure, h, problemBox, started, table } from "./dom.js";
import { fieldsOf, makeChoices, makeField, queryFields } from "./fields.js";
import { note, refreshLive } from "./live.js";
import { showRecommendation } from "./recommendation.js";

const BASIC = ["items_count", "strategy", "kernel", "workers", "batch_size"];

const FORMS = {
	run: {
		title: "Run", button: "Start the run", path: `${TASKS}/background`,
		lead: "Starts a background task. It goes on without this page, and after a restart of the service.",
		basic: BASIC,
	},
	compare: {
		title: "Compare", button: "Start the comparison", path: `${TASKS}/compare`,
		lead: "Measures strategies × kernels side by side, in rounds, on this machine.",
		basic: ["items_count", "workers", "rounds", "budget_seconds", "strategies", "kernels"],
	},
	recommend: {
		title: "Recommend", button: "Recommend", path: `${TASKS}/recommendations`,
		lead: "Which way should be the fastest here, by calibration and a cost model.",
		basic: BASIC,
		chosen: ["strategy", "kernel", "workers", "batch_size", "io_concurrency"],
	},
};

const GROUPS = [
	["Database and cache", /^(db|cache|query_|simulate|redis|io_)/],
	["Workload", /^(workload|parameters|cpu_|outer_|inner_)/],
	["Limits and more", /./],
];

/** What was entered, by key. */
const entered = new Map();

export async function formView(kind) {
	const form = FORMS[kind];
	const told = h("div");
	const [api, kernels] = await Promise.all([description(), attempt(told, () => ask("GET", `${TASKS}/kernels`))]);
	const head = [h("h2", form.title), h("p.lead", form.lead)];
	const specs = specsOf(kind, form, api);
	const fields = specs.map((spec) => widget(spec, kind, api, kernels));
	const output = h("div.output");
	const curl = h("div");
	let gathered;
	const button = h("button.main", { type: "submit" }, form.button);
	for (const field of fields) if (entered.has(field.key)) field.fill(entered.get(field.key));
	note();
	return h("div", head, h("form", { novalidate: true, onsubmit: submit, oninput: note },
		h("div.fields", form.basic.map((name) => fields.find((field) => field.name === name)?.node)),
		groups(fields.filter(({ name }) => !form.basic.includes(name))), told,
		h("div.actions", button, h("button.quiet", { onclick: reset }, "Defaults")), curl), output,
	kind === "run" && kernels && kernelTable(kernels));

	function note() {
		gathered = gather(fields);
		const { body, errors } = gathered;
		curl.replaceChildren(errors.length ? "" : command(curlOf(kind, form, body), "The same by curl"));
	}

	function reset() {
		for (const field of fields) {
			field.reset();
			field.refuse("");
		}
		told.replaceChildren();
		note();
	}

	async function submit(event) {
		event.preventDefault();
		if (button.disabled) return;
		button.disabled = true;
		told.replaceChildren();
		for (const field of fields) field.refuse("");
		try {
			const { body, errors } = gathered;
			if (errors.length) throw new Problem(422, { title: "The request is not valid", detail: "Nothing was sent.", errors });
			await sent(kind, body, output);
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
			refuse(error, fields, told);
		} finally {
			button.disabled = false;
		}
	}
}

function specsOf(kind, form, { components: { schemas }, paths }) {
	if (kind === "recommend") return queryFields(paths[form.path].get, schemas);
	return fieldsOf(schemas[kind === "run" ? "BackgroundRequest" : "CompareRequest"], schemas);
}

function widget(field, kind, { components: { schemas } }, kernels) {
	const of = (name) => (kernels ? kernels.kernels.filter((one) => one.kernel === name) : []);
	const disabled = schemas.KernelName.enum.filter((name) => of(name).length && !of(name).some((one) => one.available));
	if (field.name === "kernels") return makeChoices(field, kind, schemas.KernelName.enum, disabled);
	if (field.name === "strategies") return makeChoices(field, kind, schemas.StrategyName.enum, []);
	const workloads = field.name === "workload" && kernels?.workloads.map(({ name }) => name);
	return makeField(field, kind, { isChosen: FORMS[kind].chosen?.includes(field.name), names: workloads?.length ? workloads : undefined,
		disabled: field.name === "kernel" ? disabled : [] });
}

function groups(fields) {
	let left = fields;
	return GROUPS.map(([title, pattern]) => {
		const members = left.filter(({ name }) => pattern.test(name));
		left = left.filter((field) => !members.includes(field));
		return members.length > 0 && h("details", h("summary", title), h("div.fields", members.map(({ node }) => node)));
	});
}

/** What is entered as a body, and what cannot be sent; the other forms are told, too. */
function gather(fields) {
	const body = {};
	const errors = [];
	for (const { name, key, read } of fields) {
		entered.delete(key);
		try {
			const value = read();
			if (value === undefined) continue;
			entered.set(key, value);
			const [first, second] = name.split(".");
			if (second) (body[first] ??= {})[second] = value;
			else body[first] = value;
		} catch (error) {
			errors.push({ field: name, message: error.message });
		}
	}
	return { body, errors };
}

const queryOf = (body) => new URLSearchParams(Object.entries(body).flatMap(([key, value]) => [value].flat().map((one) => [key, one])));

function curlOf(kind, { path }, body) {
	const url = location.origin + path;
	if (kind === "recommend") return `curl -s '${url}?${queryOf(body)}'`.replace("?'", "'");
	const prefer = kind === "compare" ? "-H 'Prefer: respond-async' " : "";
	return `curl -s ${url} \\\n  ${prefer}-H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
}

async function sent(kind, body, output) {
	if (kind !== "recommend") {
		const task = await post(kind, body);
		if (kind === "compare") location.hash = `#task/${task.task_id}`;
		else output.replaceChildren(started(task));
		return;
	}
	const recommendation = await ask("GET", FORMS.recommend.path, { query: queryOf(body) });
	output.replaceChildren(showRecommendation(recommendation, () => post("run", chosenBody(body, recommendation.recommended))));
	output.querySelector("h3").focus();
}

let waiting = {};

/** Has a task accepted, once: until there is an answer, the same request has the same key. */
async function post(kind, body) {
	const wanted = JSON.stringify([kind, body]);
	if (waiting.wanted !== wanted) waiting = { wanted, key: Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-") };
	const headers = { "Idempotency-Key": waiting.key, ...(kind === "compare" && { Prefer: "respond-async" }) };
	try {
		const task = await ask("POST", FORMS[kind].path, { body, headers });
		waiting = {};
		announce(`${task.task_id} is accepted`);
		ask("GET", `${TASKS}/status/${task.task_id}`).then((view) => note(view, true), () => {}).then(refreshLive);
		return task;
	} catch (error) {
		if (error.status) waiting = {};
		throw error;
	}
}

function chosenBody({ limit, wait, cpu_iterations, outer_iterations, inner_iterations, ...body }, choice) {
	for (const name of FORMS.recommend.chosen) body[name] = choice[name];
	return { ...body, parameters: { cpu_iterations, outer_iterations, inner_iterations } };
}

/** Each message beside its field, the others above the button; the first field is gone to. */
function refuse(problem, fields, told) {
	const others = [];
	let first;
	for (const { field: name, message } of problem.errors) {
		const field = fields.find((one) => name === one.name || name.startsWith(`${one.name}.`)) ?? fields.find(({ key }) => key === name);
		field?.refuse(message);
		const group = field?.node.closest("details");
		if (group) group.open = true;
		first ??= field;
		if (!field) others.push(h("li", `${name}: ${message}`));
	}
	told.replaceChildren(problemBox(problem));
	if (others.length) told.append(h("ul.notes", others));
	first?.focus();
}

const kernelTable = ({ kernels }) => h("section", h("h3", "Kernels here"),
	table("As measured at start", ["Kernel", "State", "#Per item", "-Instructions", "-Threads"], kernels.map((one) => [
		`${one.workload} · ${one.kernel}`, one.available ? "available" : h("span.bad", `not available: ${one.reason}`),
		one.ns_per_item === null ? "–" : `${figure(one.ns_per_item / 1000)} µs`, one.instruction_set ?? "–",
		one.releases_gil ? "in parallel" : "one at a time"])));
