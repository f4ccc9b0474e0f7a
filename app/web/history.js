// The tasks that are kept: filtered, page by page, and removed.

import { ask, description, TASKS } from "./api.js";
import { announce, attempt, confirmed, count, h, label, moment, seconds, table } from "./dom.js";
import { badge, nameOf } from "./live.js";

const LIMIT = 20;

const took = ({ start_time, end_time }) => (end_time && start_time ? seconds((new Date(end_time) - new Date(start_time)) / 1000) : "–");

export async function historyView() {
	const { paths, components: { schemas } } = await description();
	// What has a closed list of words can be chosen.
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
		list, told, h("div.actions", newer, older, button("Remove finished tasks", clear, "quiet.danger")));

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
		list.replaceChildren(total ? table(range, ["Task", "State", "-Accepted", "#Items", "#Took", "-Id"], page.items.map((task) => [
			h("a", { href: `#task/${task.task_id}` }, nameOf(task)), badge(task.status), moment(task.created_at), count(task.total_items), took(task),
			h("code", task.task_id)])) : h("p.none", range));
	}

	async function clear() {
		if (!(await confirmed("Remove all finished tasks, with every result that they have? Running ones stay."))) return;
		const cleared = await attempt(told, () => ask("DELETE", `${TASKS}/results`));
		if (!cleared) return;
		await go(0);
		told.replaceChildren(h("p", { role: "status" }, `${count(cleared.deleted)} tasks are removed.`));
	}
}
