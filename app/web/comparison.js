// A comparison: the strategy × kernel matrix, and its cells ranked, with their intervals.

import { bytes, command, count, figure, h, interval, moment, pairs, percent, seconds, table } from "./dom.js";

/** What is kept in mind about a cell. */
export const FLAGS = {
  outliers: "a round lies far outside the others; it is kept",
  "wide-spread": "the rounds lie more than 10 % apart",
  "short-sample": "a round takes less than a millisecond",
  "few-rounds": "fewer rounds than asked for: the budget was used up",
  throttled: "the container's CPU quota held the processes back",
  disturbed: "another run was executing at the same time",
  "failed-items": "some items failed: what took less time did less",
};

const nameOf = (cell) => `${cell.strategy} × ${cell.kernel}`;
const isSame = (a, b) => a?.strategy === b?.strategy && a?.kernel === b?.kernel;
const unique = (values) => [...new Set(values)];

/** `node`, and `update(comparison)` as it goes on. */
export function comparisonView() {
  const node = h("div", { class: "comparison" });
  let shown = "";
  return {
    node,
    update(comparison) {
      const text = JSON.stringify(comparison);
      if (text === shown) return;
      shown = text;
      const focused = node.contains(document.activeElement) ? document.activeElement.id : "";
      node.replaceChildren(...parts(comparison).filter(Boolean));
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    },
  };
}

function parts(comparison) {
  const { cells, mismatches, winner, tied, host } = comparison;
  const measured = cells.filter((cell) => cell.median_seconds !== null);
  const marks = (cell) => [
    isSame(cell, winner) && "fastest",
    tied.some((one) => isSame(one, cell)) && "tied",
    ["projected", "skipped", "pending"].includes(cell.status) && cell.status,
  ].filter(Boolean);
  return [
    mismatches.length > 0 && h("div", { class: "problem", role: "alert" }, h("strong", {}, "Outputs differ that must be equal"),
      h("ul", {}, mismatches.map((one) => h("li", {}, `${one.cells.map(nameOf).join(", ")}: ${one.detail}`)))),
    comparison.error_message && h("div", { class: "problem" }, h("strong", {}, `The comparison is ${comparison.status}`),
      h("p", {}, comparison.error_message)),
    comparison.verdict && h("p", { class: "verdict" }, comparison.verdict),
    pairs([
      ["Items", count(comparison.items_count)], ["Workers", count(comparison.workers)], ["Batch size", count(comparison.batch_size)],
      ["Rounds", count(comparison.rounds)], ["Budget", seconds(comparison.budget_seconds)],
      ["Took", seconds(comparison.duration_seconds)],
      ["Outputs", comparison.outputs_equal === null ? null : comparison.outputs_equal ? "equal" : "not equal"],
      ["Gain over sequential", comparison.improvement_factor && `${figure(comparison.improvement_factor)} ×`],
    ], "facts small"),
    heatmap(cells, measured, marks),
    measured.length > 0 && ranking(measured, marks),
    flagList(cells),
    comparison.curl && command(comparison.curl, "Run the fastest by curl"),
    host && h("details", {}, h("summary", {}, "The machine"), pairs([
      ["CPU", host.cpu], ["CPUs usable", `${host.usable_cpus} of ${host.cpus}`], ["Memory", bytes(host.memory_bytes)],
      ["System", host.system], ["Python", `${host.python}, GIL ${host.gil}`],
      ["Load before, after", `${figure(host.load_before)}, ${figure(host.load_after)}`],
      ["Throttled", seconds(host.throttled_seconds)],
      ["Versions", Object.entries(host.versions).map((pair) => pair.join(" ")).join(", ")],
      ["Started", moment(comparison.start_time)],
    ])),
  ];
}

function heatmap(cells, measured, marks) {
  const strategies = unique(cells.map((cell) => cell.strategy));
  const kernels = unique(cells.map((cell) => cell.kernel));
  const logs = measured.map((cell) => Math.log(cell.median_seconds || 1e-9));
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const detail = h("div", { class: "detail", id: "cell-detail", "aria-live": "polite" },
    h("p", { class: "none" }, "Point at a cell, or go there by keyboard, for its interval and all that was measured."));
  const show = (cell) => detail.replaceChildren(...cellDetail(cell));

  function button(cell) {
    const words = marks(cell);
    const heat = cell.median_seconds === null ? null : high > low ? (Math.log(cell.median_seconds || 1e-9) - low) / (high - low) : 0;
    return h("button", {
      type: "button", id: `cell-${cell.strategy}-${cell.kernel}`, class: ["cell", ...words, heat === null && "empty"].filter(Boolean).join(" "),
      vars: heat === null ? {} : { "--heat": `${Math.round(100 * heat)}%` },
      "aria-describedby": "cell-detail", onfocus: () => show(cell), onmouseenter: () => show(cell), onclick: () => show(cell), onkeydown: move,
    }, h("span", { class: "value" }, cell.median_seconds === null ? "–" : seconds(cell.median_seconds)),
    h("span", { class: "mark" }, [cell.speedup && `${figure(cell.speedup)} ×`, ...words, cell.flags.length && "⚑"].filter(Boolean).join(" · ")));
  }

  const rows = strategies.map((strategy) => [strategy, ...kernels.map((kernel) => {
    const cell = cells.find((one) => one.strategy === strategy && one.kernel === kernel);
    return cell ? button(cell) : "–";
  })]);
  return h("section", {}, h("h3", {}, "Median seconds for all items"),
    table("Strategy × kernel: median, and speedup over sequential × python", [["Strategy"], ...kernels.map((kernel) => [kernel])], rows, "heatmap"),
    h("p", { class: "scale", "aria-hidden": "true" }, h("span", {}, "fastest"), h("span", { class: "ramp" }), h("span", {}, "slowest")), detail);
}

/** Arrow keys go from cell to cell. */
function move(event) {
  const place = event.currentTarget.closest("td");
  const row = place.parentElement;
  const next = {
    ArrowLeft: () => place.previousElementSibling, ArrowRight: () => place.nextElementSibling,
    ArrowUp: () => row.previousElementSibling?.cells[place.cellIndex], ArrowDown: () => row.nextElementSibling?.cells[place.cellIndex],
  }[event.key]?.()?.querySelector("button");
  if (!next) return;
  event.preventDefault();
  next.focus();
}

const cellDetail = (cell) => [
  h("h4", {}, nameOf(cell), " ", h("span", { class: "badge" }, cell.status)),
  cell.reason ? h("p", {}, cell.reason) : "",
  pairs([
    ["Median", seconds(cell.median_seconds)], ["95 % interval", interval(cell.interval_seconds)],
    ["Rounds", cell.seconds.map(seconds).join(", ")], ["Speedup", cell.speedup && `${figure(cell.speedup)} ×`],
    ["Efficiency", figure(cell.efficiency)], ["Items per second", figure(cell.throughput_items_per_second)],
    ["Measured on", cell.status === "projected" ? `${count(cell.measured_items)} items` : null],
    ["Workers used", count(cell.effective_workers)], ["CPU", percent(cell.cpu_utilization)],
    ["Peak memory", bytes(cell.peak_memory_bytes)], ["Set-up, cold", seconds(cell.setup_seconds)],
    ["API lag p99", cell.event_loop_lag_p99_ms === null ? null : `${figure(cell.event_loop_lag_p99_ms)} ms`],
    ["Throttled", seconds(cell.throttled_seconds)], ["Failed items", cell.failed_items ? count(cell.failed_items) : null],
    ["Flags", cell.flags.map((flag) => `${flag}: ${FLAGS[flag] ?? ""}`).join("; ")], ["Checksum", cell.checksum],
  ], "facts small"),
];

/** A table whose bars stand on a logarithmic scale; the figures are beside them. */
function ranking(measured, marks) {
  const ranked = [...measured].sort((a, b) => a.median_seconds - b.median_seconds);
  const ends = ranked.flatMap((c) => [c.median_seconds, c.interval_seconds?.low, c.interval_seconds?.high]).filter((value) => value > 0);
  const [least, most] = [Math.log10(Math.min(...ends)), Math.log10(Math.max(...ends))];
  const margin = Math.max(0.08 * (most - least), 0.05);
  const at = (value) => `${((100 * (Math.log10(value) - least + margin)) / (most - least + 2 * margin)).toFixed(2)}%`;
  const bar = (cell) => {
    const { low, high } = cell.interval_seconds ?? { low: cell.median_seconds, high: cell.median_seconds };
    if (!(cell.median_seconds > 0 && low > 0)) return "";
    return h("div", { class: `track ${marks(cell).join(" ")}`, "aria-hidden": "true", vars: { "--at": at(cell.median_seconds), "--low": at(low), "--high": at(high) } },
      h("i", { class: "bar" }), h("i", { class: "range" }));
  };
  const rows = ranked.map((cell, i) => [
    String(i + 1), [nameOf(cell), marks(cell).map((word) => [" ", h("span", { class: `badge ${word}` }, word)])],
    bar(cell), seconds(cell.median_seconds), interval(cell.interval_seconds),
  ]);
  return h("section", {}, h("h3", {}, "Ranked"), table("Ranked by median; bars on a logarithmic scale, with 95 % intervals",
    [["#", "number"], ["Strategy × kernel"], ["Logarithmic", "chart"], ["Median", "number"], ["95 % interval", "number less"]], rows, "ranking"));
}

function flagList(cells) {
  const flags = unique(cells.flatMap((cell) => cell.flags));
  const reasons = cells.filter((cell) => cell.reason);
  if (!flags.length && !reasons.length) return null;
  const named = (flag) => cells.filter((cell) => cell.flags.includes(flag)).map(nameOf).join(", ");
  return h("section", {}, h("h3", {}, "To keep in mind"), h("ul", { class: "notes" },
    flags.map((flag) => h("li", {}, h("strong", {}, flag), `: ${FLAGS[flag] ?? ""} (${named(flag)})`)),
    reasons.map((cell) => h("li", {}, h("strong", {}, `${nameOf(cell)} ${cell.status}`), `: ${cell.reason}`))));
}
