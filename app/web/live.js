// Unfinished tasks, and tasks that ended while the page was open.

import { ask, follow, hasEnded, poll, TASKS } from "./api.js";
import { announce, attempt, badge, byId, count, figure, h, percent, say, seconds } from "./dom.js";

const BUSY_MS = 2000;
const IDLE_MS = 5000;
const KEPT = 5;

// A browser opens at most six connections to a server, over all tabs.
const STREAMS = 2;

const cards = new Map();
const following = new Map();
let polling;

/** Sends the event `task` with the task's state as detail. */
export const progress = new EventTarget();

const underWay = () => [...cards.values()].filter(({ task }) => !hasEnded(task));

export const refreshLive = () => polling?.now();

export function startLive() {
	polling = poll(refresh, () => (underWay().length ? BUSY_MS : IDLE_MS));
	document.addEventListener("visibilitychange", stream);
}

async function refresh() {
	const pages = await Promise.all(["running", "pending"].map((status) => ask("GET", `${TASKS}/results`, { query: `status=${status}` })));
	const tasks = pages.flatMap(({ items }) => items).sort((a, b) => a.created_at.localeCompare(b.created_at));
	for (const task of tasks) note(task);
	for (const { task } of underWay()) {
		if (tasks.some(({ task_id }) => task_id === task.task_id)) continue;
		try {
			note(await ask("GET", `${TASKS}/status/${task.task_id}`));
		} catch (error) {
			if (error.status !== 404) throw error;
			drop(task.task_id);
		}
	}
	stream();
}

export function note(news, always) {
	const id = news.task_id;
	if (!cards.has(id) && (always || !hasEnded(news))) add(news);
	const card = cards.get(id);
	if (card) {
		const isEnd = hasEnded(news) && !hasEnded(card.task);
		card.task = { ...card.task, ...news };
		card.update(card.task);
		if (isEnd) {
			announce(`${nameOf(card.task)} is ${news.status}`);
			const ended = [...cards.values()].filter(({ task, node }) => hasEnded(task) && !node.contains(document.activeElement));
			for (const { task } of ended.slice(0, -KEPT)) drop(task.task_id);
		}
	}
	progress.dispatchEvent(new CustomEvent("task", { detail: news }));
}

function add(task) {
	const block = progressBlock(task, () => drop(task.task_id));
	const node = h("article.card", h("h3", h("a", { href: `#task/${task.task_id}` }, nameOf(task))), block.node);
	cards.set(task.task_id, { task, node, update: block.update });
	byId("live").prepend(node);
}

function drop(id) {
	cards.get(id).node.remove();
	cards.delete(id);
}

/** Follows the newest tasks while the page is visible. */
function stream() {
	const wanted = document.hidden ? [] : underWay().slice(-STREAMS).map(({ task }) => task.task_id);
	for (const [id, control] of following) {
		if (!wanted.includes(id)) control.abort();
	}
	for (const id of wanted) {
		if (following.has(id)) continue;
		const control = new AbortController();
		following.set(id, control);
		follow(id, note, control.signal).finally(() => following.delete(id));
	}
}

export const nameOf = (task) => (task.kind === "comparison" ? "Comparison" : `${task.strategy} × ${task.kernel}`);

/** State, bar, figures and the buttons that the state allows; `update(task)` shows a newer state.
 * A task's page shows elsewhere why it failed. */
export function progressBlock(task, dismiss, isOwnPage) {
	const name = nameOf(task);
	const isComparison = task.kind === "comparison";
	const state = h("span");
	const bar = h("progress", { max: 1, "aria-label": `Progress of ${name}` });
	const figures = h("p.figures");
	const place = h("p.hint");
	const told = h("div");
	const button = (text, onclick) => h("button.quiet", { onclick }, text, h("span.hidden", ` ${name}`));
	const act = (text, method, path) => button(text, async () => {
		const news = await attempt(told, () => ask(method, `${TASKS}/${task.task_id}${path}`));
		if (news) note(news);
		refreshLive();
	});
	const [cancel, resume, close] = [act("Cancel", "DELETE", ""), act("Resume", "POST", "/resume"), button("Dismiss", dismiss)];
	const buttons = h("div.actions", cancel, resume, dismiss && close);

	function update(now) {
		const ended = hasEnded(now);
		if (state.textContent !== now.status) state.replaceChildren(badge(now.status));
		bar.value = now.progress;
		bar.hidden = isOwnPage && now.status === "completed";
		say(figures, [
			isComparison ? now.status !== "completed" && percent(now.progress) : `${count(now.items_processed)} of ${count(now.total_items)}`,
			!isComparison && now.throughput_items_per_second && `${figure(now.throughput_items_per_second)} items/s`,
			!ended && now.estimated_remaining_seconds !== null && `${seconds(now.estimated_remaining_seconds)} left`,
		].filter(Boolean).join(" · "));
		say(place, [
			now.waiting_for && `waits for ${now.waiting_for}`, now.node && `on ${now.node}`, now.attempts > 1 && `begun ${now.attempts} times`,
			now.shards?.total > 1 && `${now.shards.completed} of ${now.shards.total} shards`, !isOwnPage && now.error_message,
		].filter(Boolean).join(" · "));
		const hadFocus = buttons.contains(document.activeElement);
		cancel.hidden = ended;
		resume.hidden = !["failed", "cancelled"].includes(now.status);
		close.hidden = !ended;
		// The focus must not vanish with the button.
		if (hadFocus && document.activeElement.hidden) buttons.querySelector("button:not([hidden])")?.focus();
	}

	update(task);
	return { node: h("div.progress", h("div.line", state, bar, isOwnPage && figures), !isOwnPage && figures, place, told, buttons), update };
}
