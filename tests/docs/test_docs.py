"""What the pages say is so: their snippets run, their tables are complete, their links lead somewhere."""

import asyncio
import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest

from assay.client import Client
from assay.client.testing import ServerProcess, start_server
from assay.server.app.command import serve
from assay.server.app.config import Config
from assay.server.rpc.execution import open_executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.metrics import Metrics
from assay.strategies import registry
from assay.v1.method import Role
from assay.v1.methods import METHODS
from tests.docs.pages import PAGES, ROOT, agree, anchors, blocks, commands, links, run_command, run_python, table
from tests.models.onnx_factory import token_embedder

GUIDE, README, OPERATIONS = ROOT / "docs/guide.md", ROOT / "README.md", ROOT / "docs/operations.md"
PREDICTIONS, REVIEW, TASKS = ROOT / "docs/predictions.md", ROOT / "docs/review.md", ROOT / "docs/tasks.md"
ADDRESS = "127.0.0.1:50051"  # where the pages' server listens
CLASSES = ("sport", "politics", "science")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server for all pages."""
    with start_server(tmp_path_factory.mktemp("assay"), log_level="warning") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A reader with an empty server and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_SERVER", server.target)
    monkeypatch.setenv("COLUMNS", "200")
    with server.client() as client:
        for pool in list(client.list_pools()):
            client.delete_pool(pool.id)
        yield client


@pytest.mark.parametrize(("page", "least"), [(GUIDE, 20), (PREDICTIONS, 5), (REVIEW, 5), (TASKS, 6)])
def test_a_page_runs_and_prints_what_it_shows(client, server, page, least):
    names: dict[str, object] = {}
    printed = ""
    shown = 0
    for block in blocks(page):
        if block.language == "python":
            assert not printed, f"what line {block.line} and before prints is not shown: {printed}"
            printed = run_python(block, page, names, {ADDRESS: server.target})
        elif block.language == "text":
            assert agree(block.text, printed), (
                f"line {block.line} shows\n{block.text}\nand the snippet prints\n{printed}"
            )
            printed, shown = "", shown + 1
        elif block.language == "console":
            for command, output in commands(block):
                told = run_command(command)
                assert agree(output, told), f"{command} shows\n{output}\nand prints\n{told}"
                shown += 1
    assert shown > least
    names["client"].close()


def test_the_readme_s_stories_run(client, server, tmp_path):
    token_embedder(tmp_path / "encoder.onnx")
    rng = np.random.default_rng(0)
    topics_N = rng.integers(0, 3, 1200)
    ids = [f"d{number}" for number in range(1200)]
    answers = {sample_id: CLASSES[topic] for sample_id, topic in zip(ids, topics_N, strict=True)}
    # Bob takes every fifth sample for something else.
    said = {"ann": answers.__getitem__, "bob": lambda each: CLASSES[0] if int(each[1:]) % 5 == 0 else answers[each]}
    names: dict[str, object] = {
        "ids": ids,
        "vectors": (rng.normal(size=(1200, 16)) + 2 * np.eye(16)[topics_N]).astype(np.float32),
        "texts": [f"text {sample_id}" for sample_id in ids],
        "languages": ["en" if number % 4 else "de" for number in range(1200)],
        "ask": lambda pick, worker="ann": said[worker](pick.id),
        "annotate": lambda picked: {sample_id: answers[sample_id] for sample_id in picked},
        "tokens": rng.integers(0, 50, (1200, 7)),
        "mask": np.ones((1200, 7), np.int64),
    }
    for block in blocks(README):
        if block.language == "python":
            run_python(block, README, names, {ADDRESS: server.target})
    names["client"].close()
    assert client.get_pool("news").counts.labeled == 10
    assert client.get_pool("docs").active_backbone
    assert client.get_pool("docs").active_head
    wrong = {each for each in ids[:40] if said["bob"](each) != answers[each]}
    (left,) = (label.sample_id for label in client.list_labels("desk", states=["disputed"]))
    assert left in wrong
    settled = {label.sample_id: label.value for label in client.list_labels("desk", states=["labeled"])}
    assert settled == {each: answers[each] for each in ids[:40] if each != left}


def test_the_readme_s_commands_run(client, tmp_path):
    ids = [f"a{number}" for number in range(40)]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps({"id": i, "text": f"text {i}"}) + "\n" for i in ids))
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    (block,) = (block for block in blocks(README) if block.text.startswith("assay pool create"))
    for command in block.text.splitlines():
        if " NAME " in command:  # what the command before has printed
            (lease,) = client.list_leases("news")
            told = {
                "NAME": lease.name,
                "N": str(lease.fencing_token),
                "a1": lease.sample_ids[0],
                "a2": lease.sample_ids[1],
            }
            command = re.sub(r"\b(NAME|N|a1|a2)\b", lambda match, told=told: told[match[0]], command)
        run_command(command)
    assert (tmp_path / "labels.parquet").stat().st_size
    assert client.get_pool("news").counts.labeled == 2


def test_the_table_of_settings_is_that_of_the_server():
    flags = {f"--{name.replace('_', '-')}" for name in inspect.signature(serve).parameters}
    rows = {name.strip("`"): row for name, *row in table(OPERATIONS, "setting")}
    assert {name: default.strip("`") for name, (default, _, _) in rows.items()} == {
        field.name: str(field.default) for field in fields(Config)
    }
    documented = {flag.strip("`") for _, flag, _ in rows.values() if flag}
    assert flags == documented | {"--adopt", "--config", "--port-file"}


def test_the_strategies_are_as_many_as_the_readme_says():
    assert f"{len(list(registry.names()))} of them" in README.read_text(encoding="utf-8")


def test_the_table_of_roles_is_that_of_the_protos():
    rows = {role.strip("`"): set(re.findall(r"`([A-Z]\w+)`", calls)) for role, calls in table(OPERATIONS, "role")}
    told = {
        role: {
            method.name
            for method in METHODS.values()
            if method.role is getattr(Role, role.upper()) and method.service.startswith("assay.")
        }
        for role in ("label", "mine", "admin")
    }
    # Some calls need more for some of what they do.
    told["admin"] |= {"WithdrawAnnotations", "SetSampleState", "ReviewSamples"}
    assert {role: rows[role] for role in told} == told


def test_the_settings_shown_as_toml_are_settings():
    (block,) = (block for block in blocks(OPERATIONS) if block.language == "toml")
    assert tomllib.loads(block.text).keys() <= {field.name for field in fields(Config)}


def test_the_table_of_metrics_is_that_of_the_server():
    executors = open_executors()
    try:
        metrics = Metrics(Gate(), executors)
        metrics.count_dropped_logs(int)
        families = list(metrics.registry.collect())
    finally:
        asyncio.run(executors.close())
    real = {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}
    rows = {name.strip("`"): kind for name, kind, *_ in table(OPERATIONS, "metric")}
    assert rows == real
    mentioned = set(re.findall(r"assay_[a-z_]+", OPERATIONS.read_text(encoding="utf-8")))
    assert {name.removesuffix("_sum").removesuffix("_total") for name in mentioned} == {
        name.removesuffix("_total") for name in real
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in links(page):
        file, _, anchor = target.partition("#")
        aim = (page.parent / file).resolve() if file else page
        assert aim.exists(), f"{page.name} links to {target}"
        assert aim.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        assert not anchor or anchor in anchors(aim), f"{page.name} links to {target}"
