// Every request to the service passes through `send`.

export const TASKS = "/api/v1/tasks";

/** The path that the service is mounted at. */
export const ROOT = new URL("..", import.meta.url).pathname.slice(0, -1);

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 5000;

const SILENCE = {
	title: "The service does not answer",
	detail: "The page goes on as soon as it does; send again what you sent.",
};

/** A failed request: an RFC 9457 problem; `status` is 0 without an answer. */
export class Problem extends Error {
	constructor(status, body) {
		super(body.detail ?? body.title);
		this.status = status;
		this.title = body.title ?? `The service answered ${status}`;
		this.detail = body.detail ?? "";
		this.errors = body.errors ?? [];
	}
}

/** Sends the events `lost`, `found`, and `refused` when a key is missing. */
export const connection = new EventTarget();

export const tell = (name) => connection.dispatchEvent(new Event(name));

let isLost = false;

function lose() {
	if (isLost) return;
	isLost = true;
	tell("lost");
	look(FIRST_PAUSE);
}

// One request at a time, at growing intervals, for all waiting parts of the page together.
function look(pause) {
	setTimeout(async () => {
		try {
			await send("GET", "/health");
			isLost = false;
			tell("found");
		} catch {
			look(Math.min(1.5 * pause, LONGEST_PAUSE));
		}
	}, pause);
}

function silent(error) {
	if (error.name === "AbortError") throw error;
	lose();
	throw new Problem(0, SILENCE);
}

/** Returns a successful response; raises Problem, and AbortError after an abort by `signal`. Sends a
 * body as JSON, a file unchanged. */
export async function send(method, path, { body, query, headers, signal } = {}) {
	const asked = { Accept: "application/json", "X-Requested-With": "hotloop", ...headers };
	if (body) asked["Content-Type"] ??= "application/json";
	const response = await fetch(ROOT + (query ? `${path}?${query}` : path), { method, headers: asked, signal, body: body instanceof Blob ? body : JSON.stringify(body) }).catch(silent);
	if (response.ok) return response;
	if (response.status === 401) tell("refused");
	throw new Problem(response.status, await response.json().catch(() => ({})));
}

export const ask = async (...asked) => (await send(...asked)).json().catch(silent);

export const description = () => ask("GET", "/openapi.json");

export const hasEnded = (task) => !["pending", "running"].includes(task.status);

/** Calls `told` with every event of a task until it has ended; reconnects. */
export async function follow(taskId, told, signal) {
	let last = "";
	while (!signal.aborted) {
		const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
		try {
			const response = await send("GET", `${TASKS}/events/${taskId}`, { headers, signal });
			if (response.status === 204) return;
			for await (const event of events(response.body)) {
				last = event.id ?? last;
				if (!event.data) continue;
				const task = JSON.parse(event.data);
				told(task);
				if (hasEnded(task)) return;
			}
		} catch (error) {
			if (signal.aborted || error.status) return;
			lose();
		}
		await new Promise((done) => setTimeout(done, FIRST_PAUSE));
		if (isLost) await new Promise((done) => connection.addEventListener("found", done, { once: true }));
	}
}

async function* events(stream) {
	const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	for (;;) {
		const { done, value } = await reader.read();
		if (done) return;
		const blocks = (rest + value).split("\n\n");
		rest = blocks.pop();
		for (const block of blocks) {
			const lines = block.split("\n").map((line) => line.split(/: ?(.*)/s));
			yield Object.fromEntries(lines.filter(([name]) => name));
		}
	}
}

/** Calls `work` every `period()` milliseconds while the page is visible and connected. */
export function poll(work, period) {
	const control = new AbortController();
	const { signal } = control;
	let timer, busy, again;
	async function now() {
		clearTimeout(timer);
		if (busy) again = true;
		if (busy || signal.aborted || isLost || document.hidden) return;
		busy = true;
		try {
			await work();
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
		} finally {
			busy = false;
			if (!signal.aborted) timer = setTimeout(now, again ? 0 : period());
			again = false;
		}
	}
	document.addEventListener("visibilitychange", now, { signal });
	connection.addEventListener("found", now, { signal });
	now();
	return {
		now, signal,
		stop() {
			clearTimeout(timer);
			control.abort();
		},
	};
}
