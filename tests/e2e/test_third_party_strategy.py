"""Somebody else's strategy: installed as a package, checked by its own tests, served by a running server."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.client import Client, Plan, scorer
from assay.client.testing import start_server
from tests.e2e.corpus import Corpus

PACKAGE = Path(__file__).resolve().parent.parent.parent / "docs/example-strategy"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it, in a folder that a Python may be pointed to."""
    folder = tmp_path_factory.mktemp("site")
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--no-deps", "--no-build-isolation", "--target", folder, PACKAGE]
    environment = {**os.environ, "VIRTUAL_ENV": str(Path(sys.executable).parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder


def test_its_own_tests_pass(installed):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", PACKAGE, PACKAGE / "tests"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inputs_are_left_alone" not in done.stdout


@pytest.fixture(scope="module")
def client(installed, tmp_path_factory):
    """A client of a server that found the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installed))
        with start_server(tmp_path_factory.mktemp("assay"), log_level="warning") as server, server.client() as client:
            yield client


def test_the_server_lists_it(client: Client):
    listed = {entry.name: entry for entry in client.list_strategies()}
    assert listed["novelty"].kind == "scorer"
    assert listed["novelty"].params_schema["properties"]["cap"]["minimum"] == 0.0


def test_the_server_mines_with_it(client: Client, corpus: Corpus):
    pool = corpus.create(client, "novel", metric="l2")
    corpus.label(client, pool, corpus.ids[:20])
    mined = client.mine(pool, plan=Plan(scores=[scorer("novelty", cap=50.0)]), size=5)
    vectors = corpus.embeddings_ND.astype(np.float64)
    distances = np.sqrt(((vectors[:, None] - vectors[None, :20]) ** 2).sum(2)).min(1)
    farthest = sorted(range(20, len(vectors)), key=lambda row: (-np.float32(distances[row]), row))[:5]
    assert [pick.id for pick in mined.picks] == [corpus.ids[row] for row in farthest]
    np.testing.assert_allclose([pick.score for pick in mined.picks], distances[farthest], rtol=1e-5)
