"""Options that several commands share, and how their text is read."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
import typer
from numpy.typing import NDArray

from assay.client import Client, Filter, Plan, RetryPolicy, parse_filter
from assay.client.plans import PlanLike

PoolArgument: TypeAlias = Annotated[str, typer.Argument(metavar="POOL", help="Pool id, such as news.")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
WhereOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", help="Condition such as 'lang=en, score>=0.5'; all of them must hold."),
]
PlanOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--plan", "-p", help="Name of a preset, a plan as JSON, or @FILE with one."),
]
SeedOption: TypeAlias = Annotated[int, typer.Option(help="Seed of all that is random.")]
PredictionsOption: TypeAlias = Annotated[
    int, typer.Option(min=0, max=100, help="How many predictions to show with each pick.")
]
FormatOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Format of the file: jsonl, json, csv, tsv, parquet, arrow or coco; by its content and name if not given."
    ),
]
StateOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--state", help="Only samples in this state: unlabeled, answered, leased, labeled, disputed, excluded."
    ),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is: the options before the sub-command."""

    server: str
    api_key: str | None
    tls: bool
    tls_ca: Path | None
    timeout: float
    wait: float

    def client(self) -> Client:
        """A client of that server. One that never answered is given up soon: the address is likely wrong."""
        return Client(
            self.server,
            api_key=self.api_key,
            tls=self.tls,
            tls_ca=self.tls_ca,
            timeout=None if self.timeout == 0 else self.timeout,
            retry=RetryPolicy(connect=self.wait),
        )


def connect(context: typer.Context) -> Client:
    """A client of the server that the command line names."""
    connection: Connection = context.obj
    return connection.client()


def read_where(conditions: Iterable[str] | None) -> Filter | None:
    """The filter of all `--where` options; None where there is none."""
    filters = [parse_filter(text) for text in conditions or ()]
    return reduce(and_, filters) if filters else None


def read_plan(text: str | None) -> PlanLike | None:
    """The plan of a `--plan` option.

    Raises:
        ValueError: JSON that is no plan.
        OSError: the file cannot be read.
    """
    if text is None:
        return None
    if text.startswith("@"):
        text = Path(text[1:]).read_text()
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        return Plan.from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"the plan is no JSON: {error}") from error


def read_matrix(path: Path) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped.

    Raises:
        ValueError: no such file.
        OSError: it cannot be read.
    """
    array = _loaded(path)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays; a .npy file with one is needed")
    return array


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name.

    Raises:
        ValueError: no such file.
        OSError: it cannot be read.
    """
    arrays = _loaded(path)
    if isinstance(arrays, np.ndarray):
        raise ValueError(f"{path} holds one array without a name; a .npz file is needed, as numpy.savez writes it")
    try:
        return dict(arrays)
    except (ValueError, BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from None


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no file of numpy arrays, or one of Python objects: {error}") from None
