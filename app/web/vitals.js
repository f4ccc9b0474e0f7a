// Lag, memory and CPU of the service, as small charts.

import { ask, poll } from "./api.js";
import { byId, bytes, figure, h, percent, say } from "./dom.js";

const KEPT_MS = 600_000;
const PERIOD_MS = 5000;
const FIRST_MS = 1200;
const [WIDTH, HEIGHT] = [240, 36];

const CHARTS = [
  { title: "API lag, p99", lines: [(s) => s.event_loop_lag_p99_ms], text: (value) => `${figure(value)} ms`, floor: 1 },
  { title: "Memory", lines: [(s) => s.api_memory_bytes + s.runs_memory_bytes, (s) => s.api_memory_bytes], text: bytes, floor: 1, parts: true },
  { title: "CPU", lines: [(s) => s.api_cpu_utilization + s.runs_cpu_utilization, (s) => s.api_cpu_utilization], text: percent, floor: 0.05, parts: true },
];

let samples = [];

export function startVitals() {
  const charts = CHARTS.map(chart);
  byId("vitals").replaceChildren(...charts.map((one) => one.node));
  poll(async () => {
    const last = samples.at(-1)?.sampled_at;
    const news = await ask("GET", "/health/vitals", { query: last && new URLSearchParams({ after: last }) });
    samples = [...samples, ...news.samples].filter((s) => Date.parse(news.samples.at(-1)?.sampled_at ?? last) - Date.parse(s.sampled_at) <= KEPT_MS);
    for (const one of charts) one.draw();
  }, () => (samples.length ? PERIOD_MS : FIRST_MS));
}

function chart({ title, lines, text, floor, parts }) {
  const value = h("span", { class: "value" }, "…");
  const area = h("path", { class: "area" });
  const paths = lines.map((_, i) => h("path", { class: i ? "line second" : "line" }));
  const drawing = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title }, area, paths);
  const about = h("p", { class: "hint" });
  return {
    node: h("div", { class: "vital" }, h("div", { class: "line" }, h("h3", {}, title), value), drawing, about),
    draw() {
      if (!samples.length) return;
      const end = Date.parse(samples.at(-1).sampled_at);
      const values = samples.map(lines[0]);
      const most = Math.max(...values);
      const top = Math.max(most, floor) * 1.1;
      const x = (s) => WIDTH * (1 - (end - Date.parse(s.sampled_at)) / KEPT_MS);
      const y = (one) => HEIGHT * (1 - one / top);
      const trace = (of) => samples.map((s, i) => `${i ? "L" : "M"}${x(s).toFixed(1)} ${y(of(s)).toFixed(1)}`).join("");
      paths.forEach((path, i) => path.setAttribute("d", trace(lines[i])));
      area.setAttribute("d", `${trace(lines[0])}L${WIDTH} ${HEIGHT}L${x(samples[0]).toFixed(1)} ${HEIGHT}Z`);
      const now = text(values.at(-1));
      say(value, now);
      const api = parts ? `API alone ${text(lines[1](samples.at(-1)))}, ` : "";
      say(about, `${api}most ${text(most)}`);
      drawing.setAttribute("aria-label", `${title}: now ${now}, most ${text(most)}`);
    },
  };
}
