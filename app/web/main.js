// The page: which view is shown, and whether the service is there.

import { ask, connection, Problem } from "./api.js";
import { byId, h, problemBox, say } from "./dom.js";
import { formView } from "./forms.js";
import { historyView } from "./history.js";
import { refreshLive, startLive } from "./live.js";
import { taskView } from "./task.js";
import { startVitals } from "./vitals.js";

let close;
let turn = 0;
let isUnanswered = false;

async function show() {
	const [name, id] = (location.hash.slice(1) || "run").split("/");
	if (name === "view" && turn) return undefined; // the link that skips to the content
	const mine = ++turn;
	let view;
	try {
		if (name === "task") view = await taskView(id);
		else view = { node: name === "history" ? await historyView() : await formView(["compare", "recommend"].includes(name) ? name : "run") };
		isUnanswered = false;
	} catch (error) {
		if (!(error instanceof Problem)) throw error;
		isUnanswered = error.status === 0;
		view = { node: h("div", h("h2", "Not to be shown"), problemBox(error)) };
	}
	if (mine !== turn) return view.close?.(); // another was asked for meanwhile
	close?.();
	close = view.close;
	byId("view").replaceChildren(view.node);
	const title = view.node.querySelector("h2");
	document.title = `${title.textContent} · Hotloop`;
	for (const link of document.querySelectorAll("nav a")) link.ariaCurrent = link.hash === `#${name}` ? "page" : null;
	return mine > 1 && title.focus(); // whoever opens the page begins at its top
}

connection.addEventListener("lost", () => {
	say(byId("connection"), "The connection to the service is lost. Trying again …");
	document.body.classList.add("lost");
});
connection.addEventListener("found", () => {
	say(byId("connection"), "");
	document.body.classList.remove("lost");
	refreshLive();
	if (isUnanswered) show();
});

window.addEventListener("hashchange", show);
show();
startLive();
startVitals();
ask("GET", "/health").then(({ version }) => say(byId("version"), version), () => {});
