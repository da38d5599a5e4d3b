"""How far a long job has come: a callback, or a bar in the terminal and in notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "reporting"]

Progress = Callable[[int, int, str], object]
"""Called with the frames done, the frames there are, and what is being done to them."""


@contextmanager
def reporting(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """Give the callback that `progress` stands for; True draws a bar for each stage while the block runs.

    Raises
    ------
    ModuleNotFoundError
        A bar was asked for and rich is not installed.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _bars() as bars:
            yield bars
    else:
        yield progress


@contextmanager
def _bars() -> Iterator[Progress]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
    except ImportError as error:
        raise ModuleNotFoundError(
            "progress=True draws its bar with rich, which is not installed: pip install "
            '"anscombe-transform[cli]", '
            "or pass a callback progress(done, total, stage)"
        ) from error
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # In a notebook the bar belongs under the cell, whatever the terminal behind it is.
    shown = console.is_terminal or console.is_jupyter
    with Bars(*columns, console=console, disable=not shown) as bars:
        tasks = {}

        def report(done: int, total: int, stage: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report
