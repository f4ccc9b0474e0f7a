// Everything that is asked of the service passes through `send`.

export const TASKS = "/api/v1/tasks";

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 5000;

const SILENCE = {
	title: "The service does not answer",
	detail: "The page goes on as soon as it does; send again what you sent.",
};

/** Why a request was not met: an RFC 9457 problem; `status` is 0 when nobody answered. */
export class Problem extends Error {
	constructor(status, body) {
		super(body.detail ?? body.title);
		this.status = status;
		this.title = body.title ?? `The service answered ${status}`;
		this.detail = body.detail ?? "";
		this.errors = body.errors ?? [];
	}
}

/** Tells `lost` and `found`. */
export const connection = new EventTarget();

let isLost = false;

function lose() {
	if (isLost) return;
	isLost = true;
	connection.dispatchEvent(new Event("lost"));
	look(FIRST_PAUSE);
}

// One question at a time, further and further apart, however much of the page waits.
function look(pause) {
	setTimeout(async () => {
		try {
			await send("GET", "/health");
			isLost = false;
			connection.dispatchEvent(new Event("found"));
		} catch {
			look(Math.min(1.5 * pause, LONGEST_PAUSE));
		}
	}, pause);
}

/** The response, if it is a success; raises Problem, and AbortError when `signal` says so. */
export async function send(method, path, { body, query, headers = {}, signal } = {}) {
	const asked = { Accept: "application/json", ...headers };
	if (body !== undefined) asked["Content-Type"] = "application/json";
	let response;
	try {
		response = await fetch(query ? `${path}?${query}` : path, {
			method, headers: asked, signal, body: body === undefined ? undefined : JSON.stringify(body),
		});
	} catch (error) {
		if (error.name === "AbortError") throw error;
		lose();
		throw new Problem(0, SILENCE);
	}
	if (response.ok) return response;
	const problem = await response.json().catch(() => ({}));
	throw new Problem(response.status, problem);
}

export async function ask(method, path, options) {
	const response = await send(method, path, options);
	try {
		return await response.json();
	} catch (error) {
		if (error.name === "AbortError") throw error;
		lose(); // it broke off
		throw new Problem(0, SILENCE);
	}
}

let described;

export const description = async () => (described ??= await ask("GET", "/openapi.json"));

export const hasEnded = (task) => !["pending", "running"].includes(task.status);

/** Tells `told` of every event of a task until it has ended, over breaks of the connection, too.
 *
 * Not an EventSource: that cannot send headers, and each time it is refused it says so. */
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

/** Works now and then, `period()` milliseconds apart, but not while nobody sees the page or the
 * connection is lost. `now()` does not wait, `stop()` ends it. */
export function poll(work, period) {
	let timer;
	let busy = false;
	let again = false;
	let stopped = false;
	async function now() {
		clearTimeout(timer);
		if (busy) again = true;
		if (busy || stopped || isLost || document.hidden) return;
		busy = true;
		try {
			await work();
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
		} finally {
			busy = false;
			if (!stopped) timer = setTimeout(now, again ? 0 : period());
			again = false;
		}
	}
	document.addEventListener("visibilitychange", now);
	connection.addEventListener("found", now);
	now();
	return {
		now,
		stop() {
			stopped = true;
			clearTimeout(timer);
			document.removeEventListener("visibilitychange", now);
			connection.removeEventListener("found", now);
		},
	};
}
