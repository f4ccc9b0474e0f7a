// The report of `hotloop compare --report`: one file that holds a comparison and the code that draws it.

import { comparisonView } from "./comparison.js";
import { byId, count, h, problemBox, seconds } from "./dom.js";

const comparison = JSON.parse(byId("comparison").textContent);
const view = comparisonView(true);
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
