// A comparison: the strategy × kernel matrix, and its cells ranked, with their intervals.

import { command, facts, figure, h, interval, pairs, seconds, table } from "./dom.js";
import { badge } from "./live.js";

export const FLAGS = {
	outliers: "a round lies far outside the others",
	"wide-spread": "the rounds lie more than 10 % apart",
	"short-sample": "a round takes less than a millisecond",
	"few-rounds": "fewer rounds than asked for: the budget was used up",
	throttled: "the container's CPU quota held the processes back",
	disturbed: "another run was executing at the same time",
	"failed-items": "some items failed: what took less time did less",
};

const nameOf = ({ strategy, kernel }) => `${strategy} × ${kernel}`;
const named = (cells) => cells.map(nameOf).join(", ");
const isSame = (a, b) => a?.strategy === b.strategy && a.kernel === b.kernel;

export function comparisonView() {
	const node = h("div.output");
	let shown;
	return {
		node,
		update(comparison) {
			const text = JSON.stringify(comparison);
			if (text === shown) return;
			shown = text;
			const focused = node.contains(document.activeElement) && document.activeElement.id;
			node.replaceChildren(...parts(comparison).filter(Boolean));
			if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
		},
	};
}

function parts(comparison) {
	const { cells, mismatches, winner, tied, host } = comparison;
	const measured = cells.filter((cell) => cell.median_seconds !== null);
	const marks = (cell) => [isSame(winner, cell) && "fastest", tied.some((one) => isSame(one, cell)) && "tied",
		cell.status !== "measured" && cell.status].filter(Boolean);
	return [
		mismatches.length > 0 && h("div.problem", { role: "alert" }, h("strong", "Outputs differ that must be equal"),
			mismatches.map((one) => h("p", `${named(one.cells)}: ${one.detail}`))),
		comparison.error_message && h("div.problem", comparison.error_message),
		comparison.verdict && h("p.verdict", comparison.verdict),
		facts(comparison, "items_count workers batch_size rounds budget_seconds duration_seconds best_approach improvement_factor outputs_equal"),
		heatmap(cells, measured, marks),
		measured.length > 0 && ranking(measured, marks),
		toKeepInMind(cells),
		comparison.curl && command(comparison.curl, "The fastest by curl"),
		host && h("details", h("summary", "The machine"),
			facts(host, "cpu usable_cpus cpus memory_bytes system python gil load_before load_after throttled_seconds versions")),
	];
}

function heatmap(cells, measured, marks) {
	const [strategies, kernels] = ["strategy", "kernel"].map((name) => [...new Set(cells.map((cell) => cell[name]))]);
	const log = (cell) => Math.log(Math.max(cell.median_seconds, 1e-9));
	const logs = measured.map(log);
	const [low, high] = [Math.min(...logs), Math.max(...logs)];
	const detail = h("div.detail", { id: "cell-detail" },
		h("p.none", "Point at a cell, or go to it by keyboard, for its interval and more."));

	function button(cell) {
		const isEmpty = cell.median_seconds === null;
		const show = () => detail.replaceChildren(...cellDetail(cell));
		return h(["button.cell", ...marks(cell), isEmpty && "empty"].filter(Boolean).join("."), {
			type: "button", id: `cell-${cell.strategy}-${cell.kernel}`, "aria-describedby": "cell-detail", onfocus: show, onmouseenter: show, onclick: show,
			vars: isEmpty ? {} : { "--heat": `${Math.round((100 * (log(cell) - low)) / (high - low || 1))}%` },
		}, h("span.value", seconds(cell.median_seconds)),
		h("span", [cell.speedup && `${figure(cell.speedup)} ×`, ...marks(cell), cell.flags.length > 0 && "flagged"].filter(Boolean).join(" · ")));
	}

	return h("section", h("h3", "Median for all items"), table("Median, and speedup over sequential × python", ["Strategy", ...kernels],
		strategies.map((strategy) => [strategy, ...kernels.map((kernel) => cells.filter((cell) => isSame(cell, { strategy, kernel })).map(button))]), "heatmap"),
	h("p.scale", { "aria-hidden": "true" }, "fastest", h("span.ramp"), "slowest"), detail);
}

const cellDetail = (cell) => [
	h("h4", nameOf(cell), " ", badge(cell.status)),
	cell.reason ?? "",
	facts(cell, `median_seconds interval_seconds seconds speedup efficiency throughput_items_per_second measured_items effective_workers
cpu_utilization peak_memory_bytes setup_seconds event_loop_lag_p99_ms throttled_seconds spread failed_items checksum`),
	pairs(cell.flags.map((flag) => [flag, FLAGS[flag]])),
];

/** Bars on a logarithmic scale, with the figures beside them. */
function ranking(measured, marks) {
	const ranked = measured.filter((cell) => cell.median_seconds > 0).sort((a, b) => a.median_seconds - b.median_seconds);
	const ends = (cell) => cell.interval_seconds ?? { low: cell.median_seconds, high: cell.median_seconds };
	const least = Math.min(...ranked.map((cell) => ends(cell).low)) / 1.1;
	const most = Math.max(...ranked.map((cell) => ends(cell).high)) * 1.1;
	const at = (value) => `${((100 * Math.log(Math.max(value, least) / least)) / Math.log(most / least)).toFixed(1)}%`;
	const bar = (cell) => h(["div.track", ...marks(cell)].join("."), { vars: { "--at": at(cell.median_seconds), "--low": at(ends(cell).low), "--high": at(ends(cell).high) } },
		h("i.bar"), h("i.range"));
	return h("section", h("h3", "Ranked"), table("By median; bars on a logarithmic scale, with 95 % intervals",
		["#", "Strategy × kernel", `${seconds(least)} … ${seconds(most)}, logarithmic`, "#Median", "#-95 % interval"],
		ranked.map((cell, i) => [String(i + 1), [nameOf(cell), marks(cell).map((word) => [" ", badge(word)])], bar(cell),
			seconds(cell.median_seconds), interval(cell.interval_seconds)]), "ranking"));
}

function toKeepInMind(cells) {
	const flags = Object.keys(FLAGS).map((flag) => [flag, cells.filter((cell) => cell.flags.includes(flag))]).filter(([, found]) => found.length);
	const reasons = cells.filter((cell) => cell.reason);
	return flags.length + reasons.length > 0 && h("section", h("h3", "To keep in mind"), h("ul.notes",
		flags.map(([flag, found]) => h("li", h("strong", flag), `: ${FLAGS[flag]} (${named(found)})`)),
		reasons.map((cell) => h("li", h("strong", `${nameOf(cell)} ${cell.status}`), `: ${cell.reason}`))));
}
