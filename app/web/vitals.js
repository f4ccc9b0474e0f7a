// Lag, memory and CPU of the service, as small charts.

import { ask, poll } from "./api.js";
import { byId, bytes, figure, h, percent, say } from "./dom.js";

const KEPT_MS = 600_000;
const PERIOD_MS = 5000;
const FIRST_MS = 1200;
const [WIDTH, HEIGHT] = [240, 36];

const of = (what) => [(one) => one[`api_${what}`] + one[`runs_${what}`], (one) => one[`api_${what}`]];

/** Title, lines, how a value is written, and the least that the chart's height stands for. */
const CHARTS = [
	["API lag, p99", [(one) => one.event_loop_lag_p99_ms], (value) => `${figure(value)} ms`, 1],
	["Memory", of("memory_bytes"), bytes, 1],
	["CPU", of("cpu_utilization"), percent, 0.05],
];

export function startVitals() {
	let samples = [];
	const charts = CHARTS.map(chart);
	byId("vitals").replaceChildren(...charts.map(({ node }) => node));
	poll(async () => {
		const last = samples.at(-1)?.sampled_at;
		const news = await ask("GET", "/health/vitals", { query: last && new URLSearchParams({ after: last }) });
		if (!news.samples.length) return;
		samples = [...samples, ...news.samples];
		const end = Date.parse(samples.at(-1).sampled_at);
		samples = samples.filter((one) => end - Date.parse(one.sampled_at) <= KEPT_MS);
		for (const one of charts) one.draw(samples, end);
	}, () => (samples.length ? PERIOD_MS : FIRST_MS));
}

function chart([title, lines, write, floor]) {
	const value = h("span.value", "…");
	const area = h("path.area");
	const paths = lines.map((_, i) => h(`path.line${i}`));
	const drawing = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title }, area, paths);
	const about = h("p.hint");
	return {
		node: h("div.vital", h("div.line", h("h3", title), value), drawing, about),
		draw(samples, end) {
			const most = Math.max(...samples.map(lines[0]));
			const x = (one) => (WIDTH * (1 - (end - Date.parse(one.sampled_at)) / KEPT_MS)).toFixed(1);
			const y = (one) => (HEIGHT * (1 - one / Math.max(most, floor) / 1.1)).toFixed(1);
			const traces = lines.map((line) => `M${samples.map((one) => `${x(one)} ${y(line(one))}`).join("L")}`);
			traces.forEach((trace, i) => paths[i].setAttribute("d", trace));
			area.setAttribute("d", `${traces[0]}L${WIDTH} ${HEIGHT}L${x(samples[0])} ${HEIGHT}Z`);
			const [now, api] = lines.map((line) => write(line(samples.at(-1))));
			say(value, now);
			say(about, `${api ? `API alone ${api}, ` : ""}most ${write(most)}`);
			drawing.setAttribute("aria-label", `${title}: now ${now}, most ${write(most)}`);
		},
	};
}
