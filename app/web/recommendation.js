// A recommendation: the choice, its reason and its accuracy, fetched again after a calibration.

import { ask, poll, TASKS } from "./api.js";
import { announce, attempt, bytes, command, count, facts, h, interval, pairs, percent, problemBox, say, seconds, started, table } from "./dom.js";

const CALIBRATION = `${TASKS}/calibration`;
const PERIOD_MS = 1000;
const MOST_UNSEEN = 5;

/** Shows the recommendation for a query; `run(choice)` starts the choice as a task. */
export async function recommendationView(query, run) {
	const recommend = () => ask("GET", `${TASKS}/recommendations`, { query });
	const first = await recommend();
	const body = h("div.output");
	const calibration = calibrationBlock(async () => {
		show(await recommend());
		announce("The recommendation is renewed");
	});
	const node = h("section", body);
	show(first);
	return node;

	function show(recommendation) {
		calibration.update(recommendation);
		body.replaceChildren(...parts(recommendation, calibration.node, run));
	}
}

function parts({ recommended: best, ranked, considered, calibration, prediction_error: error, ...rest }, calibrationNode, run) {
	const told = h("div");
	async function start() {
		const task = await attempt(told, () => run(best));
		if (task) told.replaceChildren(started(task));
	}
	return [
		h("h3.verdict", { tabindex: -1 }, `${best.strategy} × ${best.kernel} should take ${seconds(best.predicted_seconds)}.`),
		h("p.lead", rest.explanation),
		calibrationNode,
		facts(best, "predicted_seconds workers batch_size io_concurrency memory_bytes", "large"),
		facts({ ...rest, ...best, "9_of_10_runs_interval": best.interval_seconds, ...calibration, ...error, runs: error.runs || "none yet" },
			"9_of_10_runs_interval setup_seconds limited_by lower_bound_seconds age_seconds median_ratio within_25_percent runs"),
		h("div.actions", h("button.main", { onclick: start }, "Run this"), told),
		command(rest.curl, "The recommended by curl"),
		h("h3", "Choices by rank"),
		table(`The first ${ranked.length} of ${count(considered)} choices`,
			["#", "Strategy × kernel", "#Workers", "#-Batch size", "#-I/O concurrency", "#Predicted", "#-9 of 10 runs", "#-Set-up", "#-Memory", "-Limited by"],
			ranked.toSorted((a, b) => a.rank - b.rank).map((one) => [String(one.rank), [`${one.strategy} × ${one.kernel}`, h("p.hint.narrow", `batch size ${count(one.batch_size)}, I/O concurrency ${count(one.io_concurrency)}`)], count(one.workers), count(one.batch_size),
				count(one.io_concurrency), seconds(one.predicted_seconds), interval(one.interval_seconds), seconds(one.setup_seconds), bytes(one.memory_bytes), one.limited_by])),
		rest.guidelines.length > 0 && h("details", h("summary", "General advice"),
			pairs(rest.guidelines.map(({ work, advice }) => [work, advice]))),
	].filter(Boolean);
}

/** The state of the machine's calibration, and a button that starts one. */
function calibrationBlock(ended) {
	const text = h("p", { role: "status" });
	const bar = h("progress", { max: 1, "aria-label": "Progress of the calibration" });
	const told = h("div");
	const button = h("button.quiet", { onclick: start }, "Calibrate");
	const node = h("div.note", text, bar, told, h("div.actions", button));
	let isCalibrated, polling;

	async function start() {
		const state = await attempt(told, () => ask("POST", CALIBRATION));
		if (state) follow(state);
	}

	function follow(state) {
		show(state);
		let unseen = 0;
		polling ??= poll(async () => {
			if (!node.isConnected) return ++unseen > MOST_UNSEEN && stop(); // another view is shown
			const news = await ask("GET", CALIBRATION);
			show(news);
			if (news.status === "running") return undefined;
			if (news.status !== "failed") return attempt(told, ended); // tried again until `update` stops it
			stop();
			return told.replaceChildren(problemBox({ title: "The calibration failed", detail: news.error_message }));
		}, () => PERIOD_MS);
	}

	function stop() {
		polling?.stop();
		polling = undefined;
	}

	function show(state) {
		const isRunning = state?.status === "running";
		const left = state?.estimated_remaining_seconds;
		say(button, isCalibrated ? "Calibrate anew" : "Calibrate");
		node.classList.toggle("caution", !isCalibrated);
		bar.hidden = !isRunning;
		button.hidden = isRunning;
		bar.value = state?.progress ?? 0;
		say(text, [
			isCalibrated ? "" : "Not calibrated yet: the predictions rest on typical figures, so their intervals are wide.",
			isRunning ? `Calibrating, ${percent(state.progress)}${left ? `, about ${seconds(left)} left` : ""}. The recommendation is renewed when this ends.` : isCalibrated && "Predictions rest on measurements of this machine.",
		].filter(Boolean).join(" "));
	}

	return {
		node,
		update({ calibrated, calibrating }) {
			isCalibrated = calibrated;
			if (calibrating?.status === "running") follow(calibrating);
			else {
				stop();
				show(calibrating);
			}
		},
	};
}
