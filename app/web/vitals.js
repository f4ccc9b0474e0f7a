// Lag, memory and CPU of the service, as small charts.

import { ask, poll } from "./api.js";
import { byId, bytes, figure, h, percent, say } from "./dom.js";

const KEPT_MS = 600_000;
const PERIOD_MS = 5000;
const FIRST_MS = 1200;
const [WIDTH, HEIGHT] = [240, 40];

const both = (what) => [["API and runs", (one) => one[`api_${what}`] + one[`runs_${what}`]], ["API alone", (one) => one[`api_${what}`]]];

/** Title, lines by name, the format of a value, and the least value at the chart's top. */
const CHARTS = [
	["API lag, p99", [["event loop", (one) => one.event_loop_lag_p99_ms]], (value) => `${figure(value)} ms`, 1],
	["Memory", both("memory_bytes"), bytes, 1],
	["CPU", both("cpu_utilization"), percent, 0.05],
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

/** Returns the least of 1, 2, 2.5, 5 × a power of ten from a value on. */
function round(value) {
	const power = 10 ** Math.floor(Math.log10(value));
	return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.9999);
}

function chart([title, lines, write, floor]) {
	const value = h("span.value", "…");
	const area = h("path.area");
	const paths = lines.map((_, i) => h(`path.line${i}`));
	const top = h("span");
	const names = lines.map(([name], i) => h(`span.key${i}`, name));
	const drawing = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title }, area, paths);
	return {
		node: h("div.vital", h("div.line", h("h3", title), value),
			h("div.plot", h("div.scale", { "aria-hidden": "true" }, top, h("span", "0")), drawing, h("div.line", { "aria-hidden": "true" }, h("span", "10 min ago"), h("span", "now"))),
			h("p.hint.keys", names)),
		draw(samples, end) {
			const most = Math.max(...samples.map(lines[0][1]));
			const height = round(Math.max(most, floor));
			const x = (one) => (WIDTH * (1 - (end - Date.parse(one.sampled_at)) / KEPT_MS)).toFixed(1);
			const y = (one) => (HEIGHT * (1 - one / height)).toFixed(1);
			const traces = lines.map(([, line]) => `M${samples.map((one) => `${x(one)} ${y(line(one))}`).join("L")}`);
			traces.forEach((trace, i) => paths[i].setAttribute("d", trace));
			area.setAttribute("d", `${traces[0]}L${WIDTH} ${HEIGHT}L${x(samples[0])} ${HEIGHT}Z`);
			say(top, write(height));
			say(value, write(lines[0][1](samples.at(-1))));
			lines.forEach(([name, line], i) => say(names[i], `${name}: ${write(line(samples.at(-1)))}${i ? "" : `, most ${write(most)}`}`));
			drawing.setAttribute("aria-label", `${title}: ${names.map((one) => one.textContent).join("; ")}`);
		},
	};
}
