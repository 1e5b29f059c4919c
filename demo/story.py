"""The demo from the first download to the last table."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from assay.client import AssayError, Classification, Client
from demo import assets
from demo.corpus import HeldOut, add_documents, copy_pool, embed_held_out
from demo.errors import DemoError
from demo.newsgroups import Document, read, stratified
from demo.options import Options, parse
from demo.plot import plot_curves
from demo.report import BASELINE, STRATEGY, curves_of, curves_table, picks_table, timings_table, verdict, write_report
from demo.rounds import Loop, Run, Stopwatch
from demo.service import serving
from demo.tokens import Tokenizer

POOL = "news"
TOKENS = 64
# Which documents take part; the seeds of the runs count from 0.
SUBSET_SEED = 20
REPORT, PLOT = "report.json", "curves.png"
_SHOWN = 6
# Embedding one part of the held-out documents takes seconds, on a busy machine more.
_CALL_TIMEOUT = 180.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents that take part, and what turns them into tokens."""

    train: list[Document]
    test: list[Document]
    tokenizer: Tokenizer
    model: Path

    @property
    def groups(self) -> list[str]:
        """The twenty class names."""
        return sorted({document.group for document in self.train})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; gives the exit code."""
    options = parse(argv)
    console = Console(highlight=False, soft_wrap=False)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _tell(options, console)
    except AssayError as error:
        console.print(f"demo failed: {error}\nlog of the server: {_log(options)}", style="bold red", markup=False)
        return 1
    except (DemoError, OSError) as error:
        console.print(f"demo failed: {error}", style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("demo stopped", style="bold red")
        return 130
    return 0


def _tell(options: Options, console: Console) -> None:
    corpus = _load(options, console)
    began = time.perf_counter()
    watch = Stopwatch()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (REPORT, PLOT):
        # What an earlier run found must not pass for the result of one that fails.
        (options.out / name).unlink(missing_ok=True)
    with _data_folder(options, console) as data, serving(data, _log(options)) as address:
        console.print(f"server: assay serve on {address}, its data in {data}")
        with Client(address, timeout=_CALL_TIMEOUT) as client:
            held_out = _fill(client, corpus, watch, console)
            runs = _run_all(client, corpus, held_out, options, watch, console)
    _report(runs, corpus, options, watch, console)
    console.print(f"{time.perf_counter() - began:.0f} s without the downloads")


def _load(options: Options, console: Console) -> Corpus:
    console.print("[bold]1. Data and model[/bold] (20 Newsgroups; all-MiniLM-L6-v2, int8 ONNX)")
    paths = assets.fetch(assets.ASSETS, options.cache, partial(console.print, markup=False))
    console.print(f"{len(paths)} files in {options.cache}, SHA-256 checked")
    rng = np.random.default_rng(SUBSET_SEED)
    return Corpus(
        train=stratified(read(paths[assets.TRAIN], "train"), options.docs, rng),
        test=stratified(read(paths[assets.TEST], "test"), options.test_docs, rng),
        tokenizer=Tokenizer(paths[assets.VOCABULARY], TOKENS),
        model=paths[assets.MODEL],
    )


def _fill(client: Client, corpus: Corpus, watch: Stopwatch, console: Console) -> HeldOut:
    console.print("\n[bold]2. Text in, embedded by the server[/bold]")
    client.create_pool(POOL, task=Classification(corpus.groups), metric="cosine")
    model = client.upload_backbone(
        POOL,
        corpus.model,
        model_id="minilm",
        display_name="all-MiniLM-L6-v2 int8",
        pooling="mean",
        mask_input="attention_mask",
        normalize=True,
    )
    client.activate_model(model).result(timeout=_CALL_TIMEOUT)
    with _progress(console) as progress:
        task = progress.add_task("documents into the pool", total=len(corpus.train))
        with watch.measure("embed and store all documents"):
            add_documents(client, POOL, corpus.train, corpus.tokenizer, lambda done: progress.advance(task, done))
        task = progress.add_task("held-out documents", total=len(corpus.test))
        held_out = embed_held_out(
            client, POOL, corpus.test, corpus.tokenizer, lambda done: progress.advance(task, done)
        )
    pool = client.get_pool(POOL)
    rate = len(corpus.train) / watch.seconds["embed and store all documents"][0]
    console.print(
        f"pool {POOL}: {pool.counts.total:,} documents x {pool.dimension} dimensions, "
        f"{rate:.0f} documents/s at {TOKENS} tokens; {len(held_out.groups):,} held out"
    )
    return held_out


def _run_all(
    client: Client, corpus: Corpus, held_out: HeldOut, options: Options, watch: Stopwatch, console: Console
) -> list[Run]:
    schedule = options.schedule
    console.print(
        f"\n[bold]3. {schedule.start} labels at random, then {schedule.rounds} rounds of {schedule.size}[/bold], "
        f"{_seeds(options)}, {STRATEGY} against {BASELINE}\n"
        f"The first run labels pool {POOL} itself. Each other run has a pool of its own with a copy of the embeddings "
        f"that the server made: embedding is the slow part, and every run must start without labels."
    )
    truth = {document.id: document.group for document in corpus.train}
    loop = Loop(client, truth, held_out, schedule, watch)
    plan = [(strategy, seed) for seed in range(options.seeds) for strategy in (STRATEGY, BASELINE)]
    runs: list[Run] = []
    with _progress(console) as progress:
        task = progress.add_task("rounds", total=len(plan) * len(schedule.labels))
        for strategy, seed in plan:
            pool = POOL
            if runs:
                pool = f"{POOL}-{strategy}-{seed}"
                copy_pool(client, POOL, pool, corpus.train)
            runs.append(loop.run(pool, strategy, seed, lambda: progress.advance(task)))
    _check_starts(runs)
    return runs


def _check_starts(runs: Sequence[Run]) -> None:
    starts: dict[int, list[str]] = {}
    for run in runs:
        if starts.setdefault(run.seed, run.first_ids) != run.first_ids:
            raise DemoError(f"the runs of seed {run.seed} began with different labels")


def _report(runs: list[Run], corpus: Corpus, options: Options, watch: Stopwatch, console: Console) -> None:
    console.print("\n[bold]4. What came of it[/bold]")
    curves = curves_of(runs, options.schedule.labels)
    write_report(curves, options.out / REPORT)
    title = f"20 Newsgroups, pool of {options.docs:,} documents, {_seeds(options)}"
    plot_curves(curves, title, options.out / PLOT)
    console.print(curves_table(curves))
    for line in verdict(curves[STRATEGY], curves[BASELINE]):
        console.print(f"- {line}")
    console.print()
    console.print(picks_table(runs[0].last, {document.id: document.group for document in corpus.train}, _SHOWN))
    console.print(timings_table(watch))
    console.print(f"wrote {options.out / REPORT} and {options.out / PLOT}")


def _log(options: Options) -> Path:
    return options.out / "server.log"


def _seeds(options: Options) -> str:
    return "1 seed" if options.seeds == 1 else f"{options.seeds} seeds"


@contextmanager
def _data_folder(options: Options, console: Console) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=options.out))
    try:
        yield folder
    finally:
        if options.keep_data:
            console.print(f"the server's data stays in {folder}: assay serve --data-dir {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
