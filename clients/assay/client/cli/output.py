"""Printing: tables for people, one JSON document for programs."""

import base64
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.client import Box, Boxes, Classification, Freeform, MultiLabel, Regression, Span, Spans
from assay.client.cli.tasks import task_name
from assay.client.filters import Filter
from assay.client.plans import Plan
from assay.client.results import Pick, QuotaReport, Sample

# Where nobody watches, lines are for grep: wide enough not to be folded.
_PIPED_WIDTH = 200
_PREVIEW = 80


def show(value: Any, as_json: bool, render: Callable[[], RenderableType]) -> None:
    """Print a result: as JSON if asked, else as `render` draws it."""
    if as_json:
        sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")
    else:
        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        Console(file=sys.stdout, width=width, highlight=False).print(render())


def print_line(value: Any) -> None:
    """Print a line at once, whoever reads it: text as it is, else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """A result as JSON values. Times are ISO 8601, durations seconds; a payload is text, or base64 where it is none."""
    match value:
        case Plan():
            return value.to_dict()
        case Sample():
            return _plain_sample(value)
        case Filter():
            return repr(value)
        case Classification() | MultiLabel() | Regression() | Boxes() | Spans() | Freeform():
            return {"kind": task_name(value), **_plain_fields(value)}
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case np.ndarray():
            return value.tolist()
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case str():
            return value
        case Sequence():
            return [plain(item) for item in value]
    return _plain_fields(value) if dataclasses.is_dataclass(value) else value


def _plain_fields(value: Any) -> dict[str, Any]:
    return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}


def _plain_sample(sample: Sample) -> dict[str, Any]:
    fields = {entry.name: getattr(sample, entry.name) for entry in dataclasses.fields(sample)}
    text = decoded(sample)
    fields["payload"] = text
    if text is None:
        fields["payload_base64"] = base64.b64encode(sample.payload).decode()
    return plain(fields)  # type: ignore[no-any-return]


def decoded(sample: Sample) -> str | None:
    """The payload as text; None where it is none."""
    try:
        return sample.text
    except UnicodeDecodeError:
        return None


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of plain text; nothing in it is taken for markup. Without names of columns it has no head."""
    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for row in rows:
        drawn.add_row(*(Text(cell(value)) for value in row))
    return drawn


def fields(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair a line."""
    return table(("", ""), pairs)


def value_cell(value: Any) -> str:
    """What is said of a sample as a cell of a table: an empty set is an answer, and no value is none."""
    if isinstance(value, Mapping) and not all(isinstance(each, float) for each in value.values()):
        return json.dumps(value, ensure_ascii=False)  # a free-form answer
    return "(none)" if value == () else cell(value)


def cell(value: Any) -> str:
    """A value as a cell of a table."""
    match value:
        case Box():
            place = f"{value.class_name} {value.width:.4g}x{value.height:.4g} at {value.x:.4g},{value.y:.4g}"
            return place if value.score is None else f"{place} ({value.score:.0%})"
        case Span():
            return f"{value.class_name} {value.start}-{value.end}"
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
        case datetime():
            return value.astimezone().isoformat(sep=" ", timespec="seconds")
        case str():
            return value
        case Mapping():
            return ", ".join(f"{name}={cell(item)}" for name, item in value.items())
        case Sequence():
            return ", ".join(cell(item) for item in value)
        case _:
            return str(value)


def preview(sample: Sample) -> str:
    """The beginning of a payload on one line."""
    text = decoded(sample)
    if text is None:
        return f"({len(sample.payload):,} bytes of {sample.media_type or 'data'})"
    line = " ".join(text[: 4 * _PREVIEW].split())
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"


def picked(picks: Sequence[Pick], quotas: Sequence[QuotaReport]) -> RenderableType:
    """Picks, and what became of the quotas, if there were any."""
    return Group(picks_table(picks), "", quotas_table(quotas)) if quotas else picks_table(picks)


def quotas_table(quotas: Sequence[QuotaReport]) -> Table:
    """What became of quotas, in their order."""
    return table(
        ("group", "picked", "of", "at least", "at most", "wished"),
        (
            (quota.value, quota.picked, quota.available, quota.minimum, quota.maximum, _percent(quota.target))
            for quota in quotas
        ),
    )


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _parts(pick: Pick) -> list[str]:
    parts = [f"{part.strategy}={cell(part.score)}" for part in pick.parts]
    return [*parts, "at random"] if pick.exploring else parts


def predicted(pick: Pick) -> list[str]:
    """What the model says of a pick, the likeliest first."""
    if pick.numbers:
        return [f"{each.target} {spread(each.value, each.deviation)}" for each in pick.numbers]
    return [f"{guess.class_name} {guess.probability:.0%}" for guess in pick.predictions]


def spread(value: float, deviation: float | None) -> str:
    """A number, and how far it may be off where that is known."""
    return cell(value) if deviation is None else f"{cell(value)} ± {cell(deviation)}"


def picks_table(picks: Sequence[Pick]) -> Table:
    """Picks, best first, and why they were picked."""
    return table(
        ("rank", "id", "score", "parts", "predicted", "text"),
        (
            (
                pick.rank,
                pick.id,
                pick.score,
                _parts(pick),
                predicted(pick),
                preview(pick.sample),
            )
            for pick in picks
        ),
    )
