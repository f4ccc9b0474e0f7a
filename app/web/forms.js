// The forms: a run, a comparison, a recommendation. They share their input.

import { ask, description, Problem, ROOT, TASKS } from "./api.js";
import { announce, attempt, command, figure, h, problemBox, started, table } from "./dom.js";
import { fieldsOf, makeChoices, makeField, queryFields } from "./fields.js";
import { note, refreshLive } from "./live.js";
import { recommendationView } from "./recommendation.js";

const BASIC = ["items_count", "strategy", "kernel", "workers", "batch_size"];

const FORMS = {
	run: {
		title: "Run", button: "Start the run", path: `${TASKS}/background`, model: "BackgroundRequest",
		lead: "Starts a background task. It goes on without this page, and after a restart of the service.",
		basic: BASIC,
	},
	compare: {
		title: "Compare", button: "Start the comparison", path: `${TASKS}/compare`, model: "CompareRequest",
		lead: "Measures strategies × kernels side by side, in rounds, on this machine.",
		basic: ["items_count", "workers", "batch_size", "rounds", "budget_seconds", "strategies", "kernels"],
	},
	recommend: {
		title: "Recommend", button: "Recommend", path: `${TASKS}/recommendations`,
		lead: "Predicts the fastest way to run something here, by a cost model. What you leave open is chosen for you.",
		basic: BASIC,
		chosen: ["strategy", "kernel", "workers", "batch_size", "io_concurrency"],
	},
};

const GROUPS = [
	["Database and cache", /^(db|cache|query_|simulate|redis|io_)/],
	["Workload", /^(workload$|parameters\.)/],
	["Limits and more", /./],
];

/** Examples: text, form, and the values that differ from the form's defaults. */
const PRESETS = [
	["Sequential, 100 items", "run", { strategy: "sequential", items_count: 100 }],
	["Async-batch, 100 items", "run", { strategy: "async-batch", items_count: 100, workers: 1 }],
	["Multiprocessing, 50,000 items, 8 workers", "run", { strategy: "multiprocessing", items_count: 50000, workers: 8 }],
	["Hybrid, 5,000 items in flight", "run", { strategy: "hybrid", items_count: 5000, io_concurrency: 5000, workers: 2 }],
	["Compare, 1,000 items, 4 workers", "compare", { items_count: 1000, workers: 4 }],
];

const MEDIA_TYPES = { csv: "text/csv", ndjson: "application/x-ndjson", jsonl: "application/x-ndjson" };
const PREFER = { Prefer: "respond-async" };
const NO_FILE = { read() {}, refuse() {}, reset() {}, explain() {} };

/** Input by key. */
const entered = new Map();

export async function formView(kind) {
	const form = FORMS[kind];
	const told = h("div");
	const [api, kernels, index] = await Promise.all([description(), ...[`${TASKS}/kernels`, TASKS].map((path) => attempt(told, () => ask("GET", path)))]);
	const head = [h("h2", form.title), h("p.lead", form.lead)];
	const workloads = (kernels?.workloads ?? []).map((one) => ({ ...one, fields: parameterFields(one).map((spec) => makeField(spec, kind, {})) }));
	const shared = specsOf(form, api).map((spec) => widget(spec, kind, api, kernels, index));
	let fields = shared;
	let shown;
	const file = kind === "run" ? fileField(() => note()) : NO_FILE;
	const ofWorkload = h("div.fields");
	const output = h("div.output");
	const curl = h("div");
	let request;
	const button = h("button.main", { type: "submit" }, form.button);
	for (const field of [...shared, ...workloads.flatMap((one) => one.fields)]) if (entered.has(field.key)) field.fill(entered.get(field.key));
	note();
	return h("div", head, kind !== "recommend" && presets(kind, preset), h("form", { novalidate: true, onsubmit: submit, oninput: note, ...file.listeners },
		h("div.fields", form.basic.map((name) => fields.find((field) => field.name === name)?.node), file.node),
		groups(shared.filter(({ name }) => !form.basic.includes(name)), ofWorkload), told,
		h("div.actions", button, h("button.quiet", { onclick: reset }, "Defaults")), kind === "run" && output, curl), kind !== "run" && output,
	kind === "run" && kernels && kernelTable(kernels));

	function note() {
		choose();
		request = requestOf(kind, form, gather(fields, file));
		curl.replaceChildren(request.errors.length ? "" : command(curlOf(request), "The same by curl"));
	}

	/** Shows the parameters and the columns of the chosen workload. */
	function choose() {
		const name = shared.find((field) => field.name === "workload").read();
		const chosen = name ? workloads.find((one) => one.name === name) : workloads[0];
		if (chosen === shown) return;
		shown = chosen;
		fields = [...shared, ...chosen.fields];
		ofWorkload.replaceChildren(...chosen.fields.map(({ node }) => node));
		const row = { item_id: 1 };
		for (const { name, width, example } of chosen.columns_in) row[name] = width ? Array(width).fill(example) : example;
		for (const { node } of shared) for (const area of node.querySelectorAll("textarea")) area.placeholder = JSON.stringify([row]);
		file.explain(["item_id", ...chosen.columns_in.map(({ name, width }) => (width ? `${name} (${width} values)` : name))]);
	}

	function reset() {
		for (const field of fields) {
			field.reset();
			field.refuse("");
		}
		file.reset();
		told.replaceChildren();
		note();
	}

	function preset(values) {
		reset();
		for (const field of fields) if (field.key in values) field.fill(values[field.key]);
		note();
		button.focus();
	}

	async function submit(event) {
		event.preventDefault();
		if (button.disabled) return;
		button.disabled = true;
		told.replaceChildren();
		for (const field of [...fields, file]) field.refuse("");
		try {
			const { errors } = request;
			if (errors.length) throw new Problem(422, { title: "The request is not valid", detail: "Nothing was sent.", errors });
			await sent(kind, request, output);
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
			refuse(error, [...fields, file], told);
		} finally {
			button.disabled = false;
		}
	}
}

/** The fields of all workloads; the page itself does what `wait` asks for. */
const specsOf = (form, { components: { schemas }, paths }) => (form.model ? fieldsOf(schemas[form.model], schemas) : queryFields(paths[form.path].get, schemas))
	.filter(({ key }) => !/^(wait$|parameters)/.test(key));

const parameterFields = ({ name, parameters }) => parameters.map((spec) => ({
	name: `parameters.${spec.name}`, key: `${name}.${spec.name}`,
	spec: { ...spec, type: { int64: "integer", float64: "number", bool: "boolean" }[spec.dtype], enum: spec.choices.length > 0 && spec.choices,
		description: `${spec.description[0].toUpperCase()}${spec.description.slice(1)}.` },
}));

/** Buttons that fill this form or another one. */
function presets(kind, fill) {
	function take(target, values) {
		if (target === kind) return fill(values);
		entered.clear();
		for (const [key, value] of Object.entries(values)) entered.set(key, value);
		location.hash = `#${target}`;
		return undefined;
	}
	return h("div.actions", { role: "group", "aria-label": "Examples" }, h("span.hint", "Examples"),
		PRESETS.map(([text, target, values]) => h("button.quiet", { onclick: () => take(target, values) }, text)));
}

/** A file of items, chosen or dropped onto the form. */
function fileField(changed) {
	const fault = h("p.fault", { id: "run-file-fault" });
	const input = h("input", { id: "run-file", type: "file", accept: ".csv,.ndjson,.jsonl", "aria-describedby": "run-file-hint run-file-fault", onchange: taken });
	const remove = h("button.quiet", { onclick: reset, hidden: true }, "Remove the file");
	const about = h("p.hint", { id: "run-file-hint" });
	const node = h("div.field.wide.file", h("label", { for: "run-file" }, "Items from a file"), h("div.pair", input, remove), fault, about);
	const over = (isOver) => (event) => {
		event.preventDefault();
		node.classList.toggle("over", isOver);
	};

	function taken() {
		remove.hidden = !input.files.length;
		fault.textContent = "";
		changed();
	}

	function reset() {
		input.value = "";
		taken();
	}

	return {
		name: "file", key: "file", node, reset,
		explain(columns) {
			about.textContent = `CSV or NDJSON with ${columns.join(", ")}; drop it anywhere on the form. The number of items above is then not used, and strategy auto is hybrid.`;
		},
		listeners: {
			ondragover: over(true), ondragleave: over(false),
			ondrop(event) {
				over(false)(event);
				if (!event.dataTransfer.files.length) return;
				input.files = event.dataTransfer.files;
				taken();
			},
		},
		read() {
			const [file] = input.files;
			if (file && !mediaType(file)) throw new SyntaxError("must end in .csv, .ndjson or .jsonl");
			return file;
		},
		refuse: (message) => { fault.textContent = message; },
		focus: () => input.focus(),
	};
}

const mediaType = ({ name }) => MEDIA_TYPES[name.split(".").pop().toLowerCase()];

function widget(field, kind, { components: { schemas } }, kernels, index) {
	const of = (name) => (kernels ? kernels.kernels.filter((one) => one.kernel === name) : []);
	const disabled = schemas.KernelName.enum.filter((name) => of(name).length && !of(name).some((one) => one.available || !one.examined));
	if (field.name === "kernels") return makeChoices(field, kind, schemas.KernelName.enum, disabled);
	// Not every service has a cluster.
	const offered = (names) => names.filter((name) => !index || name === "auto" || index.strategies.some((one) => one.name === name));
	if (field.name === "strategies") return makeChoices(field, kind, offered(schemas.StrategyName.enum), []);
	const names = field.name === "workload" ? kernels?.workloads.map(({ name }) => name) : field.name === "strategy" && offered(field.spec.enum);
	return makeField(field, kind, { isChosen: FORMS[kind].chosen?.includes(field.name), names: names?.length ? names : undefined,
		disabled: field.name === "kernel" ? disabled : [] });
}

/** The fields in groups; `ofWorkload` has those that change with the workload. */
function groups(fields, ofWorkload) {
	let left = fields;
	return GROUPS.map(([title, pattern]) => {
		const members = left.filter(({ name }) => pattern.test(name));
		left = left.filter((field) => !members.includes(field));
		return members.length > 0 && h("details", h("summary", title), h("div.fields", members.map(({ node }) => node)), title === "Workload" && ofWorkload);
	});
}

/** Returns the input as a body, the file, and the faults; shares it with the other forms. */
function gather(fields, fileOf) {
	const body = {};
	const errors = [];
	let file;
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
	try {
		file = fileOf.read();
		if (file && body.items) throw new SyntaxError("cannot be given together with items; leave one of the two out");
	} catch (error) {
		errors.push({ field: "file", message: error.message });
	}
	return { body, file, errors };
}

const queryOf = ({ parameters = {}, ...rest }) => new URLSearchParams([...Object.entries(rest).flatMap(([key, value]) => [value].flat().map((one) => [key, one])),
	...Object.entries(parameters).map(([key, value]) => [`parameters.${key}`, value])]);

/** The request to send: a body, a query, or a file with a query. */
function requestOf(kind, { path }, { body, file, errors }) {
	if (kind === "recommend") return { method: "GET", path, query: queryOf(body), given: body, errors };
	if (!file) return { method: "POST", path, body, headers: kind === "compare" ? PREFER : {}, errors };
	const { items_count: _, items: __, ...rest } = body;
	const headers = { ...PREFER, "Content-Type": mediaType(file) };
	return { method: "POST", path: `${TASKS}/upload`, query: queryOf(rest), body: file, headers, errors };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curlOf({ method, path, query, body, headers }) {
	const url = location.origin + ROOT + path + (query?.size ? `?${query}` : "");
	const start = `curl -s ${query ? quoted(url) : url}`;
	if (method === "GET") return start;
	const isFile = body instanceof File;
	const all = isFile ? headers : { ...headers, "Content-Type": "application/json" };
	const shown = Object.entries(all).map(([name, value]) => `-H '${name}: ${value}'`).join(" ");
	return `${start} \\\n  ${shown} \\\n  ${isFile ? `--data-binary ${quoted(`@${body.name}`)}` : `-d ${quoted(JSON.stringify(body))}`}`;
}

async function sent(kind, request, output) {
	if (kind === "recommend") {
		const { query, given } = request;
		output.replaceChildren(await recommendationView(query, (choice) => post({ path: FORMS.run.path, body: chosenBody(given, choice) })));
		output.querySelector("h3").focus();
		return;
	}
	const task = await post(request);
	if (kind === "compare") location.hash = `#task/${task.task_id}`;
	else output.replaceChildren(started(task));
}

let waiting = {};

/** Submits a task once: without an answer, the same request keeps its key. */
async function post({ path, query, body, headers }) {
	const wanted = JSON.stringify([path, String(query), body instanceof File ? [body.name, body.size, body.lastModified] : body]);
	if (waiting.wanted !== wanted) waiting = { wanted, key: Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-") };
	try {
		const task = await ask("POST", path, { query, body, headers: { ...headers, "Idempotency-Key": waiting.key } });
		waiting = {};
		announce(`${task.task_id} is accepted`);
		ask("GET", `${TASKS}/status/${task.task_id}`).then((view) => note(view, true), () => {}).then(refreshLive);
		return task;
	} catch (error) {
		if (error.status) waiting = {};
		throw error;
	}
}

function chosenBody({ limit, ...body }, choice) {
	for (const name of FORMS.recommend.chosen) body[name] = choice[name];
	return body;
}

/** Shows messages beside their fields, others above the button; focuses the first field. */
function refuse(problem, fields, told) {
	const others = [];
	let first;
	for (const { field: name, message } of problem.errors) {
		const field = fields.find((one) => name === one.name || name.startsWith(`${one.name}.`));
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

const kernelTable = ({ kernels, own_workloads: own }) => h("section", h("h3", "Kernels here"),
	table("As measured", ["Kernel", "State", "#Per item", "-Instructions", "-Threads"], [...kernels.map((one) => [
		`${one.workload} · ${one.kernel}`, one.available ? "available" : one.examined ? h("span.bad", `not available: ${one.reason}`) : "not examined yet",
		one.ns_per_item === null ? "–" : `${figure(one.ns_per_item / 1000)} µs`, one.instruction_set ?? "–",
		one.releases_gil ? "in parallel" : "one at a time"]),
	...own.filter((one) => one.state !== "available").map((one) => [
		one.workload ?? one.target, one.state === "loading" ? "being loaded" : h("span.bad", `not served: ${one.reason}`), "–", "–", "–"])], "fit"));
