// A recommendation: what to take, why, and how far to trust it.

import { Problem } from "./api.js";
import { bytes, command, count, figure, h, interval, pairs, percent, problemBox, seconds, table } from "./dom.js";

const LIMITS = { io: "I/O", cpu: "CPU", gil: "the GIL", overhead: "overhead", memory: "memory" };

/** `run(choice)` starts one of the choices. */
export function showRecommendation(asked, run) {
  const { recommended: best, ranked, calibration, prediction_error: error } = asked;
  const said = h("div", {});
  const runButton = (choice, text, kind) => h("button", { type: "button", class: kind, async onclick() {
    this.disabled = true;
    said.replaceChildren();
    try {
      const task = await run(choice);
      said.replaceChildren(h("p", { role: "status" }, "Started: ", h("a", { href: `#task/${task.task_id}` }, task.task_id)));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      said.replaceChildren(problemBox(problem));
    } finally {
      this.disabled = false;
    }
  } }, text, h("span", { class: "hidden" }, ` ${choice.strategy} × ${choice.kernel}, rank ${choice.rank}`));

  const rows = ranked.map((choice) => [
    String(choice.rank), `${choice.strategy} × ${choice.kernel}`, count(choice.workers), count(choice.batch_size),
    seconds(choice.predicted_seconds), interval(choice.interval_seconds), bytes(choice.memory_bytes),
    LIMITS[choice.limited_by] ?? choice.limited_by, runButton(choice, "Run", "quiet"),
  ]);
  return h("section", { class: "recommendation" },
    h("h3", { tabindex: -1 }, `${best.strategy} × ${best.kernel}`),
    h("p", { class: "verdict" }, asked.explanation),
    pairs([
      ["Predicted", seconds(best.predicted_seconds)], ["9 of 10 runs", interval(best.interval_seconds)],
      ["Workers", count(best.workers)], ["Batch size", count(best.batch_size)],
    ], "facts large"),
    pairs([
      ["I/O concurrency", count(best.io_concurrency)], ["Memory", bytes(best.memory_bytes)], ["Set-up, cold", seconds(best.setup_seconds)],
      ["Limited by", LIMITS[best.limited_by] ?? best.limited_by], ["Nothing is faster than", seconds(asked.lower_bound_seconds)],
      ["Calibrated", `${seconds(calibration.age_seconds)} ago, in ${seconds(calibration.duration_seconds)}`],
      ["Predicted ÷ measured", error.median_ratio === null ? "no run to compare with yet" : `${figure(error.median_ratio)} (median of ${count(error.runs)} runs)`],
      ["Within 25 %", error.within_25_percent === null ? null : `${percent(error.within_25_percent)} of them`],
    ], "facts small"),
    h("div", { class: "actions" }, runButton(best, "Run this", "main")), said,
    command(asked.curl),
    h("h3", {}, "Ranked choices"),
    table(`${ranked.length} of ${count(asked.considered)} choices`, [["#", "number"], ["Strategy × kernel"], ["Workers", "number"], ["Batch", "number less"],
      ["Predicted", "number"], ["9 of 10 runs", "number less"], ["Memory", "number less"], ["Limited by", "less"], ["Start"]], rows),
    error.last.length > 0 && h("details", {}, h("summary", {}, "Predictions of the last runs"),
      table("Predicted and measured", [["Task"], ["Way"], ["Predicted", "number"], ["Measured", "number"], ["Ratio", "number"]],
        error.last.map((one) => [h("a", { href: `#task/${one.task_id}` }, one.task_id), `${one.strategy} × ${one.kernel}`,
          seconds(one.predicted_seconds), seconds(one.measured_seconds), figure(one.ratio)]))),
    asked.guidelines.length > 0 && h("details", {}, h("summary", {}, "General advice"),
      pairs(asked.guidelines.map((one) => [one.work, one.advice]))));
}
