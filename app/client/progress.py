"""Progress of a task on the screen, or told to a function."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Show = bool | Callable[[Any], None]
"""True for a bar on the standard error; False for none; or a function that gets each Progress."""


@contextmanager
def showing(show: Show) -> Iterator[Callable[[Any], None]]:
    """Yield the function that shows a Progress, until the block ends."""
    if callable(show):
        yield show
    elif not show:
        yield lambda _: None
    elif importlib.util.find_spec("tqdm") is not None:
        with _tqdm_bar() as told:
            yield told
    else:
        with _rich_bar() as told:
            yield told


@contextmanager
def _tqdm_bar() -> Iterator[Callable[[Any], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=None, unit=" items") as bar:

        def told(state: Any) -> None:
            bar.total = state.total_items
            bar.set_postfix_str(state.status, refresh=False)
            bar.update(state.items_processed - bar.n)

        yield told


@contextmanager
def _rich_bar() -> Iterator[Callable[[Any], None]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        *Progress.get_default_columns()[1:3],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("", total=None)

        def told(state: Any) -> None:
            bars.update(
                bar,
                description=state.status,
                total=state.total_items,
                completed=state.items_processed,
            )

        yield told
