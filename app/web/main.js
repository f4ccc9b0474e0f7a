// The page: its views, the connection to the service, and signing in.

import { ask, connection, Problem, tell } from "./api.js";
import { attempt, byId, h, problemBox, say } from "./dom.js";
import { formView } from "./forms.js";
import { historyView } from "./history.js";
import { refreshLive, startLive } from "./live.js";
import { taskView } from "./task.js";
import { startVitals } from "./vitals.js";

let close, isIn, isUnanswered;
let turn = 0;

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
		isUnanswered = [0, 401].includes(error.status);
		view = { node: h("div", h("h2", "This view cannot be shown"), problemBox(error)) };
	}
	if (mine !== turn) return view.close?.();
	close?.();
	close = view.close;
	byId("view").replaceChildren(view.node);
	const title = view.node.querySelector("h2");
	document.body.dataset.view = name;
	document.title = `${title.textContent} · Hotloop`;
	for (const link of document.querySelectorAll("nav a")) link.ariaCurrent = link.hash === `#${name}` ? "page" : null;
	return mine > 1 && title.focus(); // a page that was just opened begins at its top
}

connection.addEventListener("lost", () => say(byId("connection"), "The connection to the service is lost. Trying again …"));
connection.addEventListener("found", () => {
	say(byId("connection"), "");
	refreshLive();
	if (isUnanswered) show();
});

const [door, key, out] = ["door", "key", "out"].map(byId);

/** Asks for a key, or opens the page to a client; signed in again, it continues. */
function enter({ name, expires_at }) {
	out.hidden = !expires_at;
	if (!name) return door.open || door.showModal();
	door.close();
	key.value = "";
	if (isIn) return isIn === name ? tell("found") : location.reload();
	isIn = name;
	window.onhashchange = show;
	show();
	startLive();
	return startVitals();
}

connection.addEventListener("refused", () => enter({}));
door.oncancel = (event) => event.preventDefault();
door.onsubmit = async (event) => {
	event.preventDefault();
	const session = await attempt(byId("refusal"), () => ask("POST", "/session", { body: { key: key.value.trim() } }));
	if (session) enter(session);
};
out.onclick = async () => {
	if (await attempt(byId("connection"), () => ask("DELETE", "/session"))) location.reload();
};

ask("GET", "/session").then(enter, () => enter({ name: "?" }));
ask("GET", "/health").then(({ version }) => say(byId("version"), version), () => {});
