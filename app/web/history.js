// Stored tasks: filtering, paging and removing them.

import { ask, description, hasEnded, TASKS } from "./api.js";
import { announce, attempt, badge, confirmed, count, h, label, moment, seconds, table } from "./dom.js";
import { nameOf } from "./live.js";

const LIMIT = 20;

const took = ({ start_time, end_time }) => (end_time && start_time ? seconds((new Date(end_time) - new Date(start_time)) / 1000) : "–");

const sources = ({ db, cache }) => (db === cache ? db : `${db}, ${cache}`);

export async function historyView() {
	const { paths, components: { schemas } } = await description();
	// Filters with a closed list of words.
	const filters = paths[`${TASKS}/results`].get.parameters.flatMap(({ name, schema }) => {
		const words = schemas[(schema.anyOf ?? [schema]).find((one) => one.$ref)?.$ref.split("/").pop()]?.enum;
		return words ? [h("select", { id: `filter-${name}`, name, onchange: () => go(0) }, h("option", { value: "" }, "any"), words.map((word) => h("option", word)))] : [];
	});
	let offset = 0;
	let total = 0;
	const list = h("div.output");
	const told = h("div");
	const button = (text, onclick, kind = "quiet") => h(`button.${kind}`, { onclick }, text);
	const newer = button("Newer", () => go(offset - LIMIT));
	const older = button("Older", () => go(offset + LIMIT));
	await go(0);
	return h("div", h("h2", "History"),
		h("div.fields", filters.map((select) => h("div.field", h("label", { for: select.id }, label(select.name)), select))),
		list, told, h("div.actions", newer, older, button("Delete all finished tasks", clear, "quiet.danger")));

	async function go(to) {
		if (to < 0 || (to && to >= total)) return;
		const query = new URLSearchParams({ limit: LIMIT, offset: to });
		for (const { name, value } of filters) if (value) query.set(name, value);
		const page = await attempt(told, () => ask("GET", `${TASKS}/results`, { query }));
		if (!page) return;
		({ offset, total } = page);
		const last = offset + page.items.length;
		const range = total ? `${count(offset + 1)} to ${count(last)} of ${count(total)} tasks, newest first` : "No task matches.";
		newer.setAttribute("aria-disabled", offset === 0);
		older.setAttribute("aria-disabled", last >= total);
		announce(range);
		list.replaceChildren(total ? table(range, ["Task", "State", "#-Items", "#-Workers", "#-Batch size", "-Database, cache", "#Took", "-Accepted", "-Id", "#Action"], page.items.map(row)) : h("p.none", range));
	}

	function row(task) {
		const batches = task.batch_size === "auto" ? "auto" : count(task.batch_size);
		const remove = h("button.quiet.danger", { onclick: () => removed(task) }, "Delete", h("span.hidden", ` ${nameOf(task)} ${task.task_id}`));
		return [
			[h("a", { href: `#task/${task.task_id}` }, nameOf(task)), h("p.hint.narrow", `${count(task.total_items)} items, ${task.workers} workers, batch size ${batches}, ${sources(task)}`)],
			badge(task.status), count(task.total_items), count(task.workers), batches, sources(task), took(task), moment(task.created_at),
			h("code", task.task_id), hasEnded(task) && remove,
		];
	}

	async function removed(task) {
		if (!(await confirmed(`Delete ${nameOf(task)}, ${task.task_id}, with its results?`))) return;
		const gone = await attempt(told, () => ask("DELETE", `${TASKS}/results/${task.task_id}`));
		if (gone) await after("The task is deleted.");
	}

	async function clear() {
		if (!(await confirmed("Delete all finished tasks, with all their results? Running ones stay."))) return;
		const cleared = await attempt(told, () => ask("DELETE", `${TASKS}/results`));
		if (cleared) await after(`${count(cleared.deleted)} tasks are deleted.`);
	}

	async function after(text) {
		await go(0);
		told.replaceChildren(h("p", { role: "status" }, text));
	}
}
