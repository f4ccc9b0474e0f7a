// The report of `hotloop compare --report`: one file that holds a comparison and the code that draws it.

import { comparisonView, nameOf } from "./comparison.js";
import { byId, count, formatted, h, label, problemBox, seconds, table } from "./dom.js";

const COLUMNS = `status median_seconds setup_seconds interval_seconds spread speedup efficiency throughput_items_per_second
throughput_with_setup_items_per_second effective_workers batch_size cpu_utilization peak_memory_bytes event_loop_lag_p99_ms throttled_seconds
measured_items failed_items checksum seconds flags reason`.split(/\s/);

/** Every figure of every cell; CPU and memory also as bars. */
function everyCell({ cells, items_count: items }, marks) {
	const most = Math.max(...cells.map((cell) => cell.peak_memory_bytes));
	const bars = { cpu_utilization: (value) => value, peak_memory_bytes: (value) => value / most };
	const written = (name, value) => ((value ?? null) === null || value.length === 0 ? "–"
		: bars[name] ? h("span.share", { vars: { "--share": `${100 * bars[name](value)}%` } }, formatted(name, value)) : formatted(name, value));
	const rows = cells.toSorted((a, b) => (a.median_seconds ?? Infinity) - (b.median_seconds ?? Infinity) || 0).map((cell) => {
		const total = cell.median_seconds === null || cell.setup_seconds === null ? 0 : cell.median_seconds + cell.setup_seconds;
		const status = [cell.status, ...marks(cell).filter((mark) => mark !== cell.status)].join(", ");
		const figures = { ...cell, status, throughput_with_setup_items_per_second: total ? items / total : null };
		return [nameOf(cell), ...COLUMNS.map((name) => written(name, figures[name]))];
	});
	return h("details", { open: true }, h("summary", "Every cell"), table("The fastest first; set-up is not part of the median", ["Strategy × kernel", ...COLUMNS.map((name, i) => `${i && i < 17 ? "#" : ""}${label(name)}`)], rows, "every"));
}

const comparison = JSON.parse(byId("comparison").textContent);
const view = comparisonView(everyCell);
const { items_count: items, start_time: start, duration_seconds: took, status, error_message: fault } = comparison;
byId("view").replaceChildren(
	h("h1", "Hotloop"),
	h("h2.eyebrow", `${count(items)} items, strategy × kernel`),
	fault ? problemBox({ title: `The comparison ${status}`, detail: fault }) : "",
	view.headline,
	h("p.hint", `Workload ${comparison.workload}, measured${start ? ` on ${start.slice(0, 10)} ${start.slice(11, 16)} UTC,` : ""}${took === null ? "" : ` in ${seconds(took)}`} by Hotloop ${document.body.dataset.version}; task ${comparison.task_id}.${status === "completed" ? "" : ` The comparison is ${status}.`}`),
	view.node,
);
view.update(comparison);
