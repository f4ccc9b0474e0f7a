"""Measures the kernels of `loops` against each other and against their peers, on one core.

    python -m benchmarks.kernels [--rounds 9] [--json FILE]

All forms take turns in every round, so that a change of the clock rate or a noisy neighbour meets
them alike, and ratios compare medians of the same rounds. Times are seconds of processor time of
the one thread. Whatever is timed has first been compared with the python kernel.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any

import numpy as np

from benchmarks.peers import numpy_items, plain_numba
from benchmarks.peers.build import build_cython_peer
from hotloop import kernels

__all__ = ["Form", "Measurement", "Report", "as_json", "markdown", "measure", "take_turns"]

BATCH = 512
TERMS: Mapping[str, Mapping[str, int]] = {
    "loop": {"cpu_iterations": 20_000},
    "nested": {"outer_iterations": 100, "inner_iterations": 200},
}
# The parity bound of the first simulated item, rounded up; integers are exact.
TOLERANCES = {"loop": 5.4e-10, "nested": 0}
IDLE = {"cpu_iterations": 0, "outer_iterations": 0, "inner_iterations": 0}
OVERHEAD_RUNS = 200
PYTHON, PLAIN = "python", "peer: plain Cython"
PACKAGES = ("numpy", "numba", "llvmlite", "Cython")

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """A way of computing a term for a batch of `items`; `run` returns the output column."""

    term: str
    name: str
    items: int
    run: Callable[[], Any]
    repeats: int = 1


@dataclass(frozen=True)
class Measurement:
    """Microseconds an item of one form, over all rounds."""

    term: str
    name: str
    items: int
    median_us: float
    least_us: float
    most_us: float


@dataclass(frozen=True)
class Report:
    """All measurements of one process, and where they were made."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    rounds: int
    compile_seconds: float
    measurements: Sequence[Measurement]

    def find(self, term: str, name: str, items: int | None = None) -> Measurement | None:
        """Return the measurement of this form, or None."""
        for found in self.measurements:
            if (found.term, found.name) == (term, name) and items in (None, found.items):
                return found
        return None


def measure(rounds: int = 9) -> Report:
    """Measure every form that works here, `rounds` times in turn. Takes about 2 s a round."""
    compile_seconds = _warm_up()
    with TemporaryDirectory() as folder:
        forms = _forms(Path(folder))
        _check(forms)
        times = take_turns(forms, rounds)
    return Report(
        machine=_machine(),
        versions={"Python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        rounds=rounds,
        compile_seconds=compile_seconds,
        measurements=[
            Measurement(form.term, form.name, form.items, statistics.median(us), min(us), max(us))
            for form, us in zip(forms, times, strict=True)
        ],
    )


def take_turns(forms: Sequence[Form], rounds: int) -> list[list[float]]:
    """Return the microseconds an item, of every form in each round."""
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(rounds):
        for form, measured in zip(forms, times, strict=True):
            started = thread_time()
            for _ in range(form.repeats):
                form.run()
            seconds = thread_time() - started
            measured.append(seconds / form.repeats / form.items * 1e6)
    return times


def markdown(report: Report) -> str:
    """Return the report as Markdown: a line about the machine, and a table for each term."""
    lines = [
        ", ".join(f"{key}: {value}" for key, value in {**report.machine, **report.versions}.items())
        + f". Medians of {report.rounds} interleaved rounds of processor time, in one thread."
        + f" The numba kernel compiled in {report.compile_seconds:.1f} s.",
    ]
    for term in dict.fromkeys(measured.term for measured in report.measurements):
        rows = [measured for measured in report.measurements if measured.term == term]
        lines += [
            "",
            f"### {term}",
            "",
            "| form | items a batch | µs an item | least to most | × plain Cython | × python |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {row.name} | {row.items} | {row.median_us:,.2f} "
            f"| {row.least_us:,.2f} to {row.most_us:,.2f} "
            f"| {_speedup(report, row, PLAIN)} | {_speedup(report, row, PYTHON)} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data."""
    return asdict(report)


def _speedup(report: Report, row: Measurement, baseline: str) -> str:
    found = report.find(row.term, baseline)
    return "–" if found is None else f"{found.median_us / row.median_us:,.2f}"


def _warm_up() -> float:
    """Make every kernel ready; return how long numba compiled."""
    seconds = 0.0
    for name in kernels.available_kernels("loops"):
        started = perf_counter()
        kernels.get_kernel("loops", name).warm_up()
        if name == "numba":
            seconds = perf_counter() - started
    return seconds


def _forms(folder: Path) -> list[Form]:
    columns = kernels.get_workload("loops").simulated_columns(np.arange(BATCH) * 7919)
    forms: list[Form] = []
    for term, parameters in TERMS.items():
        forms += _kernel_forms(term, columns, parameters)
    plain_cython = build_cython_peer("plain_cython", folder)
    for term, parameters in TERMS.items():
        for name, module, items in (
            (PLAIN, plain_cython, 32),
            ("peer: plain Numba", plain_numba, 32),
            ("peer: NumPy over items", numpy_items, BATCH),
        ):
            forms.append(_peer_form(term, name, module, columns, parameters, items))
    for name in kernels.available_kernels("loops"):
        kernel = kernels.get_kernel("loops", name)
        one = _first(columns, 1)
        forms.append(
            Form(
                "overhead of a run without work",
                f"{name}",
                1,
                lambda kernel=kernel, one=one: kernel.run(one, IDLE),  # type: ignore[misc]
                OVERHEAD_RUNS,
            )
        )
    return forms


def _kernel_forms(term: str, columns: Columns, parameters: Mapping[str, int]) -> list[Form]:
    forms = []
    for name in kernels.available_kernels("loops"):
        for choice in kernels.instruction_sets("loops", name) or (None,):
            kernel = kernels.get_kernel("loops", name, choice)
            # What is slow an item is given few of them, so that a round stays short.
            slow = choice is None or choice == "baseline"
            for items in (1,) if slow else (BATCH, 1):
                batch = _first(columns, items)

                def run(kernel: kernels.Kernel = kernel, batch: Columns = batch) -> Any:
                    return kernel.run(batch, {**IDLE, **parameters})[term]

                label = f"{name} ({choice})" if choice else f"{name}"
                forms.append(Form(term, label, items, run, 1 if slow or items > 1 else 20))
    return forms


def _peer_form(
    term: str,
    name: str,
    module: Any,
    columns: Columns,
    parameters: Mapping[str, int],
    items: int,
) -> Form:
    declared = next(c for c in kernels.get_workload("loops").calls if c.function == term)
    function = getattr(module, term)
    inputs = [columns[column][:items] for column in declared.columns]
    out = np.empty_like(inputs[0])

    def run() -> Any:
        function(*inputs, *parameters.values(), out)
        return out

    return Form(term, name, items, run)


def _first(columns: Columns, items: int) -> Columns:
    return {name: column[:items] for name, column in columns.items()}


def _check(forms: Sequence[Form]) -> None:
    """Compare the first item of every form with the python kernel; this also warms them up."""
    timed = [form for form in forms if form.term in TERMS]
    expected = {form.term: form.run()[0] for form in timed if form.name == PYTHON}
    for form in timed:
        difference = abs(form.run()[0] - expected[form.term])
        if difference > TOLERANCES[form.term]:
            raise AssertionError(f"{form.name}: {form.term} differs by {difference}")


def _machine() -> dict[str, str]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model,
        "system": f"{platform.system()} {platform.machine()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    arguments = parser.parse_args()
    report = measure(arguments.rounds)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(as_json(report), indent=2), encoding="utf-8")
    print(markdown(report), end="")


if __name__ == "__main__":
    main()
