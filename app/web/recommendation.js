// A recommendation: what to take, why, and how far to trust it.

import { attempt, bytes, command, count, facts, h, interval, pairs, seconds, started, table } from "./dom.js";

export function showRecommendation(recommendation, run) {
	const { recommended: best, ranked, calibration, prediction_error: error } = recommendation;
	const told = h("div");
	async function start() {
		const task = await attempt(told, run);
		if (task) told.replaceChildren(started(task));
	}
	return h("section",
		h("h3", { tabindex: -1 }, `${best.strategy} × ${best.kernel}`),
		h("p.verdict", recommendation.explanation),
		facts(best, "predicted_seconds workers batch_size memory_bytes", "large"),
		facts({ ...recommendation, ...best, "9_of_10_runs_interval": best.interval_seconds, ...calibration, ...error, runs: error.runs || "none yet" },
			"9_of_10_runs_interval io_concurrency setup_seconds limited_by lower_bound_seconds age_seconds median_ratio within_25_percent runs"),
		h("div.actions", h("button.main", { onclick: start }, "Run this"), told),
		command(recommendation.curl, "The recommended by curl"),
		h("h3", "Ranked choices"),
		table(`${ranked.length} of ${count(recommendation.considered)} choices`,
			["#", "Strategy × kernel", "#Workers", "#-Batch", "#Predicted", "#-9 of 10 runs", "#-Memory", "-Limited by"],
			ranked.map((one) => [String(one.rank), `${one.strategy} × ${one.kernel}`, count(one.workers), count(one.batch_size),
				seconds(one.predicted_seconds), interval(one.interval_seconds), bytes(one.memory_bytes), one.limited_by])),
		recommendation.guidelines.length > 0 && h("details", h("summary", "General advice"),
			pairs(recommendation.guidelines.map(({ work, advice }) => [work, advice]))));
}
