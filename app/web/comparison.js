// A comparison: the verdict, the strategy × kernel matrix, and its cells ranked.

import { badge, cautions, command, count, facts, figure, h, interval, pairs, say, seconds, table } from "./dom.js";

export const nameOf = ({ strategy, kernel }) => `${strategy} × ${kernel}`;
const isSame = (a, b) => a?.strategy === b.strategy && a.kernel === b.kernel;
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** `headline` is the verdict in one sentence, `node` shows the figures; in a report, which may be
 * printed, with `details` of the cells. */
export function comparisonView(details) {
	const headline = h("p.headline");
	const node = h("div.output.comparison");
	let shown;
	return {
		headline, node,
		update(comparison) {
			const text = JSON.stringify(comparison);
			if (text === shown) return;
			shown = text;
			say(headline, sentence(comparison));
			const focused = node.contains(document.activeElement) && document.activeElement.id;
			node.replaceChildren(...parts(comparison, details).filter(Boolean));
			if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
		},
	};
}

const measuredOf = (cells) => cells.filter((cell) => cell.median_seconds !== null);

function sentence({ cells, winner, tied, status, mismatches, items_count: items }) {
	const measured = measuredOf(cells);
	if (mismatches.length) return "The outputs differ, so the times say nothing.";
	if (!measured.length) return status === "running" ? "Nothing is measured yet." : "Nothing was measured.";
	const best = cells.find((cell) => isSame(winner ?? tied[0], cell));
	const fastest = best ?? measured.reduce((a, b) => (b.median_seconds < a.median_seconds ? b : a));
	const gain = fastest.speedup > 1.05 ? `, ${figure(fastest.speedup)} times as fast as sequential × python` : "";
	const took = `${seconds(fastest.median_seconds)} for ${plural(items, "item")}${gain}`;
	if (!best) return `${status === "running" ? "So far" : "No verdict; so far"} ${nameOf(fastest)} leads: ${took}.`;
	if (winner) return `${nameOf(best)} is the fastest: ${took}.`;
	return `${tied.length > 3 ? `${nameOf(best)} and ${tied.length - 1} others` : tied.map(nameOf).join(" and ")} cannot be told apart: about ${took}.`;
}

function parts(comparison, details) {
	const { cells, mismatches, winner, tied, host } = comparison;
	const measured = measuredOf(cells);
	const marks = (cell) => [isSame(winner, cell) && "fastest", tied.some((one) => isSame(one, cell)) && "tied",
		cell.status !== "measured" && cell.status].filter(Boolean);
	return [
		mismatches.length > 0 && h("div.problem", { role: "alert" }, h("strong", "Outputs differ that must be equal"),
			mismatches.map((one) => h("p", `${one.cells.map(nameOf).join(", ")}: ${one.detail}`))),
		h("div", comparison.verdict && h("p.verdict", comparison.verdict), (comparison.status !== "running" || comparison.compared_cells > 0) && h("p.lead", outputs(comparison))),
		heatmap(comparison, measured, marks),
		measured.length > 0 && ranking(measured, marks),
		cautions(comparison.cautions),
		details?.(comparison, marks),
		comparison.curl && command(comparison.curl, "The fastest by curl"),
		facts(comparison, "items_count workers batch_size io_concurrency rounds budget_seconds setup_budget_seconds exact duration_seconds setup_seconds kernel best_approach improvement_factor"),
		host && h("details", { open: Boolean(details) }, h("summary", "The machine"),
			facts({ ...host, instruction_sets: Object.entries(host.instruction_sets).map(([kernel, set]) => `${kernel} ${set ?? "none"}`) },
				"cpu usable_cpus cpus memory_bytes system python gil load_before load_after throttled_seconds instruction_sets versions")),
	];
}

function outputs({ outputs_equal: equal, compared_cells: compared, cells }) {
	if (equal === null) return "Outputs were not compared: that takes two measured cells.";
	return `The outputs of ${count(compared)} of ${plural(cells.length, "cell")} were compared: ${equal ? "all that must be equal are equal" : "some differ that must be equal"}.`;
}

function heatmap({ cells, workers, cautions: notes = [] }, measured, marks) {
	const [strategies, kernels] = ["strategy", "kernel"].map((name) => [...new Set(cells.map((cell) => cell[name]))]);
	const log = (cell) => Math.log(Math.max(cell.median_seconds, 1e-9));
	const logs = measured.map(log);
	const [low, high] = [Math.min(...logs), Math.max(...logs)];
	const detail = h("div.detail", { id: "cell-detail" },
		h("p.none", "Point at a cell, or go to it by keyboard, for its interval and more."));

	function button(cell) {
		const isEmpty = cell.median_seconds === null;
		const show = () => detail.replaceChildren(...cellDetail(cell, notes));
		return h(["button.cell", ...marks(cell), isEmpty && "empty"].filter(Boolean).join("."), {
			type: "button", id: `cell-${cell.strategy}-${cell.kernel}`, "aria-describedby": "cell-detail", onfocus: show, onmouseenter: show, onclick: show,
			vars: isEmpty ? {} : { "--heat": `${Math.round((100 * (log(cell) - low)) / (high - low || 1))}%` },
		}, h("span.value", seconds(cell.median_seconds)),
		h("span", [cell.speedup && `${figure(cell.speedup)} ×`, ...marks(cell), cell.flags.length > 0 && "flagged"].filter(Boolean).join(" · ")),
		!isEmpty && h("span", `${count(cell.effective_workers)} of ${plural(workers, "worker")}`),
		!isEmpty && h("span", `set-up ${seconds(cell.setup_seconds)}`));
	}

	return h("section", h("h3", "Median for all items"), table("Median, speedup over sequential × python, workers that worked, and set-up", ["Strategy", ...kernels],
		strategies.map((strategy) => [strategy, ...kernels.map((kernel) => cells.filter((cell) => isSame(cell, { strategy, kernel })).map(button))]), "heatmap"),
	h("p.scale", { "aria-hidden": "true" }, "fastest", h("span.ramp"), "slowest"), detail);
}

const cellDetail = (cell, notes) => [
	h("h4", nameOf(cell), " ", badge(cell.status)),
	cell.reason ?? "",
	facts(cell, `median_seconds interval_seconds setup_seconds seconds speedup efficiency throughput_items_per_second measured_items effective_workers batch_size
cpu_utilization peak_memory_bytes event_loop_lag_p99_ms throttled_seconds spread failed_items checksum`),
	pairs(notes.filter(({ name }) => cell.flags.includes(name)).map(({ name, text }) => [name, text])),
];

/** The least and the greatest time of a cell. */
function ends({ interval_seconds: interval, median_seconds: median, seconds: rounds }) {
	const all = [median, ...rounds, ...(interval ? [interval.low, interval.high] : [])];
	return { low: Math.min(...all), high: Math.max(...all) };
}

/** 1, 2 and 5 times powers of ten, picoseconds to years. */
const STEPS = Array.from({ length: 63 }, (_, i) => [1, 2, 5][i % 3] * 10 ** (Math.floor(i / 3) - 12));

/** An axis from zero, or a logarithmic one if the slowest takes over ten times as long. */
function axisOf(ranked) {
	const low = Math.min(...ranked.map((cell) => ends(cell).low));
	const high = Math.max(...ranked.map((cell) => ends(cell).high));
	if (high < 10 * low) {
		const step = STEPS.find((one) => high / one <= 4);
		const ticks = Array.from({ length: Math.ceil(high / step) + 1 }, (_, i) => i * step);
		return { words: "from zero", ticks, at: (value) => value / ticks.at(-1) };
	}
	const first = STEPS.findLastIndex((one) => one < 0.9 * low);
	const last = STEPS.findIndex((one) => one >= high);
	const every = Math.ceil((last - first) / 4);
	const [least, most] = [STEPS[first], STEPS[last]];
	return { words: "on a logarithmic axis", ticks: STEPS.slice(first, last + 1).filter((_, i) => i % every === 0), at: (value) => Math.log(value / least) / Math.log(most / least) };
}

/** A tick's value without trailing zeros. */
function tick(value) {
	const [factor, unit] = value === 0 || value >= 1 ? [1, "s"] : value >= 1e-3 ? [1e3, "ms"] : [1e6, "µs"];
	return `${Number((value * factor).toPrecision(3)).toLocaleString("en")} ${unit}`;
}

/** Bars on a ruled axis, beside the figures. */
function ranking(measured, marks) {
	const ranked = measured.filter((cell) => cell.median_seconds > 0).sort((a, b) => a.median_seconds - b.median_seconds);
	const { words, ticks, at: share } = axisOf(ranked);
	const at = (value) => `${(100 * share(value)).toFixed(1)}%`;
	const rules = () => ticks.map((value) => h("i.rule", { vars: { "--at": at(value) } }));
	const bar = (cell) => h(["div.track", ...marks(cell)].join("."), { vars: { "--at": at(cell.median_seconds), "--low": at(cell.interval_seconds?.low ?? cell.median_seconds), "--high": at(cell.interval_seconds?.high ?? cell.median_seconds) } },
		rules(), h("i.bar"), h("i.range"), cell.seconds.map((value) => h("i.round", { vars: { "--at": at(value) } })));
	const axis = h("div.axis", ticks.map((value) => h("span", { vars: { "--at": at(value) } }, tick(value))));
	return h("section", h("h3", "Ranked"), table(`By median; bars ${words}, with 95 % intervals and a dot for each round`,
		["#", "Strategy × kernel", axis, "#Median", "#-95 % interval"],
		ranked.map((cell, i) => [String(i + 1), [h("span.name", nameOf(cell)), marks(cell).map((word) => [" ", badge(word)])], bar(cell),
			seconds(cell.median_seconds), interval(cell.interval_seconds)]), "ranking"));
}
