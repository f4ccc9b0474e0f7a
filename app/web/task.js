// One task: its state, measurements and results.

import { ask, hasEnded, poll, ROOT, TASKS } from "./api.js";
import { comparisonView } from "./comparison.js";
import { cautions, count, facts, h, percent, problemBox, table } from "./dom.js";
import { nameOf, note, progress, progressBlock } from "./live.js";

const PERIOD_MS = 2000;

export async function taskView(id) {
	let task = await ask("GET", `${TASKS}/status/${encodeURIComponent(id)}`);
	let full = task.status;
	const block = progressBlock(task, undefined, true);
	const failure = h("div");
	const comparison = task.kind === "comparison" && comparisonView();
	const body = comparison ? comparison.node : h("div.output");
	show();
	const polling = poll(async () => {
		if (hasEnded(task) && full === task.status) return;
		const news = await ask("GET", `${TASKS}/status/${id}`);
		full = news.status;
		task = news;
		note(news);
		show();
	}, () => PERIOD_MS);
	progress.addEventListener("task", told, { signal: polling.signal });

	function told({ detail }) {
		if (detail.task_id !== task.task_id) return;
		task = { ...task, ...detail };
		block.update(task);
		if (full !== task.status) polling.now();
	}

	function show() {
		failure.replaceChildren(task.error_message ? problemBox({ title: `The task ${task.status === "cancelled" ? "was cancelled" : task.status}`, detail: task.error_message }) : task.waiting_for ? problemBox({ title: "The task waits for", detail: task.waiting_for }) : "");
		if (!comparison) body.replaceChildren(...(task.result ? resultParts(task.result) : []));
		else if (task.comparison) comparison.update(task.comparison);
	}

	return {
		node: h("div", h(comparison ? "h2.eyebrow" : "h2", nameOf(task)), failure, comparison?.headline, block.node, body,
			facts(task, "task_id created_at workload estimated_seconds")),
		close: polling.stop,
	};
}

function resultParts(result) {
	const files = `${ROOT}${TASKS}/results/${result.task_id}`;
	const names = Object.keys(result.results[0] ?? {});
	// JSON has null for failed items, too; the errors may lack some.
	const none = (id) => (result.failed_items > result.errors.length || result.errors.some(({ item_id }) => item_id === id) ? "–" : "not finite");
	const workers = `${count(result.effective_workers)} of ${count(result.requested_workers)}`;
	const batches = `${count(result.batch_size)}${result.batch_size !== null && result.requested_batch_size === "auto" ? ", chosen" : ""}`;
	return [
		facts({ ...result, workers_that_worked: workers }, "duration_seconds setup_seconds throughput_items_per_second throughput_with_setup_items_per_second workers_that_worked", "large"),
		cautions(result.cautions),
		facts({ ...result, batch_size: batches }, "batch_size cpu_utilization peak_memory_bytes start_time end_time io_seconds cpu_seconds event_loop_lag_ms failed_items error_rate checksum"),
		h("p", "Every item's result: ", ["ndjson", "csv", "arrow"].map((format) => [h("a", { href: `${files}?format=${format}`, download: true }, format), " "])),
		result.stages.length > 0 && table("Stages", ["Stage", "Source", "#Calls", "#Retries", "#Hit rate"],
			result.stages.map((one) => [one.stage, one.source, count(one.calls), count(one.retries), percent(one.hit_rate)]), "fit"),
		names.length > 0 && table("First results", names.map((name) => `#${name}`), result.results.map((row) => names.map((name) => String(row[name] ?? none(row.item_id)))), "fit"),
		result.errors.length > 0 && table(`The first ${result.errors.length} of ${count(result.failed_items)} failed items`, ["#Item", "Stage", "Reason"],
			result.errors.map((one) => [String(one.item_id), one.stage, one.reason]), "fit"),
	].filter(Boolean);
}
