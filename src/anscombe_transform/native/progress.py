"""How far a long job is: the callback that functions take, and the bar that ``progress=True`` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Bars", "Progress", "draw_bars", "reporting"]

Progress = Callable[[int, int, str], object]
"""Called with the frames done, the frames there are, and what is being done to them."""


class Bars:
    """Progress bars of rich, one for each stage; a `Progress`."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._tasks: dict[str, Any] = {}

    def __call__(self, done: int, total: int, stage: str) -> None:
        """Show how far a stage is."""
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(stage, total=total)
        self._display.update(self._tasks[stage], completed=done, total=total)

    def clear(self) -> None:
        """Remove the stages so far, before another input begins."""
        for task in self._tasks.values():
            self._display.remove_task(task)
        self._tasks.clear()


@contextmanager
def draw_bars(*, transient: bool = False) -> Iterator[Bars]:
    """Draw bars on standard error while the block runs, in a terminal or a notebook; elsewhere none.

    Raises
    ------
    ModuleNotFoundError
        rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError as error:
        raise ModuleNotFoundError(
            "progress=True draws its bar with rich, which is not installed: pip install "
            '"anscombe-transform[cli]", or pass a callback progress(done, total, stage)'
        ) from error
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # In a notebook the bar belongs under the cell, whatever the terminal behind it is.
    shown = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, transient=transient, disable=not shown) as display:
        yield Bars(display)


@contextmanager
def reporting(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """Give the callback that `progress` stands for; True draws a bar for each stage while the block runs.

    Raises
    ------
    ModuleNotFoundError
        A bar was asked for and rich is not installed.
    """
    if progress is True:
        with draw_bars() as bars:
            yield bars
    else:
        yield progress or None
