"""Progress bars on standard error, where a person watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from assay.client import results


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is moved by calls of (done, total)."""
    with _bar() as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def operating(description: str) -> Iterator[Callable[[results.Progress], None]]:
    """A bar that follows an operation and names its stage."""

    def follow(progress: results.Progress) -> None:
        bar.update(
            task,
            description=f"{description}: {progress.stage}" if progress.stage else description,
            completed=progress.done,
            total=progress.total or None,
        )

    with _bar() as bar:
        task = bar.add_task(description, total=None)
        yield follow


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
