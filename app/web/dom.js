// Making elements, and writing figures.

import { Problem } from "./api.js";

const DRAWN = ["svg", "path"];

/** Makes an element, as `h("p.hint", {id: "x"}, …children)`; attributes are optional, empty ones are
 * left out. `on…` are listeners, `vars` CSS properties: set by script, which the page's policy allows. */
export function h(name, ...children) {
	const [tag, ...classes] = name.split(".");
	const node = DRAWN.includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
	if (classes.length) node.setAttribute("class", classes.join(" "));
	const attributes = children[0]?.constructor === Object ? children.shift() : {};
	if (tag === "button") node.type = "button";
	if (tag === "h2") node.tabIndex = -1; // for focus
	for (const [key, value] of Object.entries(attributes)) {
		if (isNone(value) || value === false) continue;
		if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
		else if (key === "vars") for (const [property, text] of Object.entries(value)) node.style.setProperty(property, text);
		else node.setAttribute(key, value === true ? "" : value);
	}
	node.append(...children.flat(Infinity).filter((child) => child || child === 0));
	return node;
}

export const byId = (id) => document.getElementById(id);

/** Sets a text if it changes: a screen reader announces it each time. */
export function say(node, text) {
	if (node.textContent !== text) node.textContent = text;
}

export const announce = (text) => say(byId("announcer"), text);

const isNone = (value) => (value ?? null) === null;
const written = (write) => (value) => (isNone(value) ? "–" : write(value));

export const count = written((value) => Math.round(value).toLocaleString("en"));

export const figure = written((value) => {
	if (Math.abs(value) >= 1000 || value === 0) return count(value);
	return value.toLocaleString("en", { maximumSignificantDigits: 3, minimumSignificantDigits: 3 });
});

export const seconds = written((value) => {
	if (value === 0) return "0 s";
	if (value < 9.995e-4) return `${figure(value * 1e6)} µs`;
	if (value < 0.9995) return `${figure(value * 1e3)} ms`;
	if (value < 120) return `${figure(value)} s`;
	const [whole, high, low] = value < 7200 ? [value, "min", "s"] : [value / 60, "h", "min"];
	return `${Math.floor(whole / 60)} ${high} ${Math.floor(whole % 60)} ${low}`;
});

export const bytes = written((value) => (value < 1e9 ? `${figure(value / 1e6)} MB` : `${figure(value / 1e9)} GB`));
export const percent = written((value) => `${(100 * value).toFixed(value && value < 0.0995 ? 1 : 0)} %`);
export const interval = written(({ low, high }) => `${seconds(low)} to ${seconds(high)}`);

/** Formats a time by the reader's clock; Sweden's format is ISO 8601. */
export const moment = written((text) => new Date(text).toLocaleString("sv"));

const LABELS = {
	items_count: "Items", db: "Database", db_delay_ms: "Database delay", redis_delay_ms: "Cache delay",
	io_concurrency: "I/O concurrency", items: "Your own items, as JSON",
	throughput_items_per_second: "Items per second", throughput_with_setup_items_per_second: "Items per second, with set-up",
	interval_seconds: "95 % interval", seconds: "Rounds", cpu_utilization: "CPU", io_seconds: "I/O, all workers",
	cpu_seconds: "CPU time", setup_seconds: "Set-up", event_loop_lag_ms: "API lag p99",
	event_loop_lag_p99_ms: "API lag p99", cpus: "CPUs", lower_bound_seconds: "Nothing is faster than", age_seconds: "Age of the calibration",
	median_ratio: "Predicted ÷ measured", within_25_percent: "Within 25 %", task_id: "Id",
};

export function label(name, withUnit = false) {
	const unit = withUnit && /_(ms|seconds)$/.exec(name)?.[1];
	const words = LABELS[name] ?? name.replace(/_(ms|seconds|bytes)$/, "").replaceAll("_", " ").replace(/^(cpu|gil)\b/, (word) => word.toUpperCase());
	return words[0].toUpperCase() + words.slice(1) + (unit ? ` (${unit === "ms" ? "ms" : "s"})` : "");
}

const FORMATS = [
	[/interval/, interval], [/_bytes$/, bytes], [/seconds$/, seconds], [/_(time|at)$/, moment],
	[/utilization$|rate$|percent$|^spread$/, percent], [/_ms$/, (value) => `${figure(value.p99 ?? value)} ms`],
	[/^speedup$|factor$/, (value) => `${figure(value)} ×`], [/^checksum$|_id$/, (value) => h("code", value)],
];

/** Formats a value of an answer by the unit in its name. */
export function formatted(name, value) {
	if (Array.isArray(value)) return value.map((one) => formatted(name, one)).join(", ");
	const format = FORMATS.find(([pattern]) => pattern.test(name))?.[1];
	if (format) return format(value);
	if (typeof value === "number") return Number.isInteger(value) ? count(value) : figure(value);
	if (typeof value === "object") return Object.entries(value).map((pair) => pair.join(" ")).join(", ");
	return { true: "yes", false: "no" }[value] ?? value;
}

/** Lists names and values of an answer, formatted by their names; `names` are separated by blanks. */
export const facts = (answer, names, kind = "small") => pairs(names.split(/\s/).filter((name) => !isNone(answer[name]) && answer[name].length !== 0)
	.map((name) => [label(name), formatted(name, answer[name])]), kind);

export const pairs = (entries, kind = "small") =>
	h(`dl.facts.${kind}`, entries.map(([name, value]) => h("div", h("dt", name), h("dd", value))));

/** The cautions of an answer; those of a comparison name the cells that they hold for. */
export const cautions = (found = []) => found.length > 0 && h("section", h("h3", "To keep in mind"),
	h("ul.notes", found.map(({ name, text, where }) => h("li", h("strong", name), `: ${text}`, where && [". ", h("span.hint", where)]))));

export const badge = (word) => h(`span.badge.${word}`, word);

/** Makes a table that scrolls if there is no room. A column's title begins with # for numbers, with
 * - if it is hidden first. The first cell of a row names it. */
export function table(caption, titles, rows, kind = "plain") {
	const written = (title) => (typeof title === "string" ? title : "");
	const marks = titles.map((title) => /^(#(?=.))?-?/.exec(written(title))[0].replace("#", ".number").replace("-", ".less"));
	const row = (cells) => h("tr", cells.map((cell, i) => (i ? h(`td${marks[i]}`, cell) : h(`th${marks[i]}`, { scope: "row" }, cell))));
	return h("div.scroll", { tabindex: 0, role: "region", "aria-label": caption }, h(`table.${kind}`, h("caption", caption),
		h("thead", h("tr", titles.map((title, i) => h(`th${marks[i]}`, { scope: "col" }, title.replace?.(/^(#(?=.))?-?/, "") ?? title)))), h("tbody", rows.map(row))));
}

/** A command, and a button that copies it, or else selects it. */
export function command(text, title) {
	const code = h("pre", { tabindex: 0, role: "region", "aria-label": title }, h("code", text));
	const button = h("button.quiet", { onclick: copy }, "Copy curl");
	async function copy() {
		const said = (await copied(text, code)) ? "Copied" : "Marked: copy it with Ctrl+C";
		say(button, said);
		announce(said);
	}
	return h("div.command", h("div.line", h("h3", title), button), code);
}

async function copied(text, node) {
	try {
		await navigator.clipboard.writeText(text); // absent without HTTPS or loopback
		return true;
	} catch {
		getSelection().selectAllChildren(node);
		return document.execCommand("copy");
	}
}

export function confirmed(question) {
	const dialog = byId("confirm");
	say(byId("confirm-text"), question);
	dialog.returnValue = "";
	dialog.showModal();
	return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

/** A link to an accepted task, and the service's message about it. */
export const started = ({ task_id: id, message }) => h("p", { role: "status" }, "Started: ", h("a", { href: `#task/${id}` }, id), message && h("span", ` ${message}`));

export const problemBox = ({ title, detail }) => h("div.problem", { role: "alert" }, h("strong", title), h("p", detail));

/** Returns the result of `work`; if the service refuses, undefined, and shows its message in `box`. */
export async function attempt(box, work) {
	box.replaceChildren();
	try {
		return await work();
	} catch (error) {
		if (!(error instanceof Problem)) throw error;
		box.replaceChildren(problemBox(error));
		return undefined;
	}
}
