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
	const list = h("div.output");
	const told = h("div");
	const button = (text, onclick, kind = "quiet") => h(`button.${kind}`, { type: "button", onclick }, text);
	const newer = button("Newer", () => go(offset - LIMIT));
	const older = button("Older", () => go(offset + LIMIT));
	await go(0);
	return h("div", h("h2", { tabindex: -1 }, "History"),
		h("div.fields", filters.map((select) => h("div.field", h("label", { for: select.id }, label(select.name)), select))),
		list, told, h("div.actions", newer, older, button("Remove finished tasks", clear, "danger")));

	async function go(to) {
		const query = new URLSearchParams({ limit: LIMIT, offset: Math.max(0, to) });
		for (const { name, value } of filters) if (value) query.set(name, value);
		const page = await attempt(told, () => ask("GET", `${TASKS}/results`, { query }));
		if (!page) return;
		offset = page.offset;
		const last = offset + page.items.length;
		const range = page.total ? `${count(offset + 1)} to ${count(last)} of ${count(page.total)} tasks, newest first` : "No task matches.";
		const hadFocus = document.activeElement;
		newer.disabled = offset === 0;
		older.disabled = last >= page.total;
		if (hadFocus.disabled) (hadFocus === newer ? older : newer).focus();
		announce(range);
		list.replaceChildren(page.total ? table(range, ["Task", "State", "-Accepted", "#Items", "#Took", "-Id"], page.items.map((task) => [
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
