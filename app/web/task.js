// One task: how it stands, what it measured, where its results are.

import { ask, hasEnded, poll, Problem, TASKS } from "./api.js";
import { comparisonView } from "./comparison.js";
import { bytes, count, figure, h, moment, pairs, percent, problemBox, seconds, table } from "./dom.js";
import { note, nameOf, progress, progressBlock } from "./live.js";

const PERIOD_MS = 2000;

/** The view of a task, and `close()` for when it is left. */
export async function taskView(id) {
  let task = await ask("GET", `${TASKS}/status/${encodeURIComponent(id)}`);
  const title = h("h2", { tabindex: -1 }, nameOf(task));
  const block = progressBlock(task);
  const body = h("div", {});
  const comparison = task.kind === "comparison" ? comparisonView() : null;
  show();

  const polling = poll(async () => {
    if (hasEnded(task)) return;
    const news = await ask("GET", `${TASKS}/status/${task.task_id}`);
    note(news);
    take(news);
  }, () => PERIOD_MS);
  const told = ({ detail }) => detail.task_id === task.task_id && detail.status !== task.status && polling.now();
  const moved = ({ detail }) => detail.task_id === task.task_id && block.update({ ...task, ...detail });
  progress.addEventListener("task", moved);
  progress.addEventListener("task", told);

  function take(news) {
    task = news;
    block.update(task);
    show();
  }

  function show() {
    if (comparison) {
      if (task.comparison) comparison.update(task.comparison);
    } else if (task.result && !body.firstChild) body.append(...resultParts(task.result));
    else if (!task.result) body.replaceChildren();
  }

  // A task that was resumed has no end any more.
  const resumed = ({ detail }) => {
    if (detail.task_id === task.task_id && hasEnded(task) && !hasEnded(detail)) {
      task = { ...task, ...detail, result: null };
      show();
      polling.now();
    }
  };
  progress.addEventListener("task", resumed);

  const facts = pairs([["Task", h("code", {}, task.task_id)], ["Accepted", moment(task.created_at)],
    ["Workload", task.workload], ["Estimate", seconds(task.estimated_seconds)]], "facts small");
  return {
    node: h("div", {}, title, facts, block.node, comparison ? comparison.node : body),
    close() {
      polling.stop();
      for (const listener of [moved, told, resumed]) progress.removeEventListener("task", listener);
    },
  };
}

function resultParts(result) {
  const lag = result.event_loop_lag_ms;
  const files = `${TASKS}/results/${result.task_id}`;
  return [
    pairs([
      ["Duration", seconds(result.duration_seconds)],
      ["Items per second", figure(result.throughput_items_per_second)],
      ["CPU", percent(result.cpu_utilization)],
      ["Peak memory", bytes(result.peak_memory_bytes)],
    ], "facts large"),
    pairs([
      ["Started", moment(result.start_time)], ["Ended", moment(result.end_time)],
      ["Strategy", result.strategy], ["Kernel", result.kernel],
      ["Workers used", `${count(result.effective_workers)} of ${count(result.requested_workers)}`],
      ["Batch size", count(result.batch_size)], ["Set-up", seconds(result.setup_seconds)],
      ["I/O, all workers", seconds(result.io_seconds)], ["CPU time", seconds(result.cpu_seconds)],
      ["API lag p99", lag && `${figure(lag.p99)} ms`],
      ["Failed items", `${count(result.failed_items)} (${percent(result.error_rate)})`],
      ["Checksum", result.checksum && h("code", {}, result.checksum)],
    ]),
    h("p", { class: "links" }, "Every item's result: ",
      ["ndjson", "csv", "arrow"].map((format) => [h("a", { href: `${files}?format=${format}`, download: true }, format.toUpperCase()), " "])),
    result.stages.length > 0 && table("Stages", [["Stage"], ["Source"], ["Calls", "number"], ["Retries", "number"], ["Hit rate", "number"]],
      result.stages.map((s) => [s.stage, s.source, count(s.calls), count(s.retries), percent(s.hit_rate)])),
    result.results.length > 0 && firstResults(result.results),
    result.errors.length > 0 && table(`Errors: the first ${result.errors.length} of ${count(result.failed_items)}`,
      [["Item", "number"], ["Stage"], ["Reason"]], result.errors.map((e) => [e.item_id, e.stage, e.reason])),
  ].filter(Boolean);
}

function firstResults(rows) {
  const names = Object.keys(rows[0]);
  return table("First results", names.map((name) => [name, "number"]), rows.map((row) => names.map((name) => String(row[name] ?? "–"))));
}

/** A view for what cannot be shown. */
export function problemView(error) {
  if (!(error instanceof Problem)) throw error;
  return h("div", {}, h("h2", { tabindex: -1 }, "Not to be shown"), problemBox(error));
}
