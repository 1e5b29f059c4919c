"""The same job from a shell: the `assay` command as a process, against a real server."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.client import Classification
from tests.e2e.corpus import CLASSES
from tests.models.onnx_factory import linear_embedder

NOBODY = "127.0.0.1:1"


class Shell:
    """Runs `assay` in a folder, for one server."""

    def __init__(self, target, folder):
        self.folder = folder
        self._target = target
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}

    def run(self, *words, server=None, text=None):
        """The finished process."""
        command = [sys.executable, "-m", "assay.client.cli", "--server", server or self._target, *map(str, words)]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            input=text or "",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def json(self, *words, text=None):
        """What a command that must succeed prints with --json."""
        done = self.run(*words, "--json", text=text)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *words, server=None):
        """Exit status and the error that a command tells with --json."""
        done = self.run(*words, "--json", server=server)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stderr)["error"]


@pytest.fixture
def shell(server, tmp_path):
    return Shell(server.target, tmp_path)


def _records(corpus):
    return [
        {"id": sample_id, "text": text, "embedding": vector_D, "attributes": {"lang": language}}
        for sample_id, text, vector_D, language in zip(
            corpus.ids, corpus.texts, corpus.embeddings_ND.tolist(), corpus.languages, strict=True
        )
    ]


def _write_lines(path: Path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_whole_job_from_a_shell(shell, corpus, pool):
    classes = [word for name in CLASSES for word in ("--class", name)]
    created = shell.json("pool", "create", pool, *classes)
    assert created["name"] == f"pools/{pool}"
    assert [each["name"] for each in created["task"]["classes"]] == list(CLASSES)
    _write_lines(shell.folder / "corpus.jsonl", _records(corpus))
    added = shell.json("add", pool, "--from", "corpus.jsonl")
    assert (added["added"], added["skipped"], added["replaced"]) == (len(corpus.ids), 0, 0)

    batch = shell.json("next", pool, 30, "--worker", "ann", "--where", "lang=en")
    picks = [pick["sample"] for pick in batch["picks"]]
    assert {sample["attributes"]["lang"] for sample in picks} == {"en"}
    assert picks[0]["payload"] == corpus.texts[int(picks[0]["id"][1:])]
    answers = corpus.answers([sample["id"] for sample in picks])
    _write_lines(shell.folder / "labels.jsonl", [{"id": key, "label": value} for key, value in answers.items()])
    lease = ("--lease", batch["lease"]["name"], "--token", batch["lease"]["fencing_token"])
    submit = ("annotate", pool, "--worker", "ann", *lease)
    first = picks[0]["id"]
    stored = shell.json(*submit, f"{first}={answers[first]}")
    assert (stored["stored"], stored["lease_remaining"]) == (1, 29)
    rest = shell.json(*submit, "--from", "labels.jsonl")
    assert (rest["stored"], rest["unchanged"], rest["lease_remaining"]) == (29, 1, 0)

    head = shell.json("train", pool)
    assert head["active"]
    assert head["head"]["labels"] == 30
    mined = shell.json("mine", pool, 5, "--plan", "margin", "--predictions", 2)
    assert mined["provenance"]["head"] == head["name"]
    assert [pick["rank"] for pick in mined["picks"]] == [1, 2, 3, 4, 5]
    assert len(mined["picks"][0]["predictions"]) == 2
    scored = shell.json("score", pool, "--plan", "margin", "--top", 5)
    assert [entry["id"] for entry in scored["scores"]] == [pick["sample"]["id"] for pick in mined["picks"]]

    assert shell.json("export", pool, "--out", "out.jsonl")["bytes"] > 0
    lines = [json.loads(line) for line in (shell.folder / "out.jsonl").read_text().splitlines()]
    assert {line["sample_id"]: line["class_name"] for line in lines} == answers
    shell.json("export", pool, "--out", "out.parquet")
    assert pq.read_table(shell.folder / "out.parquet").num_rows == 30
    status = shell.json("status")
    assert status["health"] == "SERVING"
    counts = next(entry["counts"] for entry in status["pools"] if entry["name"] == f"pools/{pool}")
    assert (counts["labeled"], counts["total"]) == (30, len(corpus.ids))


def test_strategies_are_listed(shell):
    known = shell.json("strategies")
    assert {"margin", "k_center", "random"} <= {entry["name"] for entry in known["strategies"]}
    assert {"margin", "margin_k_center"} <= {entry["name"] for entry in known["presets"]}
    for_people = shell.run("strategies").stdout
    assert "margin" in for_people
    assert "scorer" in for_people


def test_a_backbone_embeds_arrays_from_a_shell(shell, client, pool):
    linear_embedder(shell.folder / "model.onnx", features=4, dimension=3)
    client.create_pool(pool, task=Classification(["a", "b"]))
    model = shell.json("model", "upload", pool, "model.onnx", "--id", "linear", "--activate")
    assert model["active"]
    _write_lines(shell.folder / "ids.jsonl", [{"id": f"s{index}"} for index in range(6)])
    features_NF = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.savez(shell.folder / "inputs.npz", features=features_NF)
    assert shell.json("add", pool, "--from", "ids.jsonl", "--inputs", "inputs.npz")["added"] == 6
    assert len(shell.json("search", pool, "--sample", "s0", "-k", 2)["hits"][0]) == 2


def test_samples_come_through_a_pipe_and_payloads_of_any_bytes_go_out(shell, client, pool):
    client.create_pool(pool)
    line = json.dumps({"id": "one", "payload": {"a": 1}, "embedding": [1.0, 2.0]})
    assert shell.json("add", pool, "--from", "-", text=line + "\n")["added"] == 1
    client.add_samples(pool, ["two"], embeddings=[[2.0, 1.0]], payloads=[b"\xff\x00"])
    assert json.loads(shell.json("sample", "get", pool, "one")["payload"]) == {"a": 1}
    assert base64.b64decode(shell.json("sample", "get", pool, "two")["payload_base64"]) == b"\xff\x00"


@pytest.mark.parametrize(
    "words",
    [
        ("mine", "some", "0"),
        ("add", "some", "--from", "nowhere.jsonl"),
        ("pool", "delete", "some"),
    ],
)
def test_wrong_usage_ends_with_2(shell, words):
    done = shell.run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_ends_with_3(shell):
    status, error = shell.refused("status", server=NOBODY)
    assert (status, error["code"]) == (3, "UNAVAILABLE")
    assert "assay serve" in error["hint"]


def test_a_refusal_ends_with_4_and_says_why(shell, client, pool):
    client.create_pool(pool, task=Classification(["a", "b"]))
    client.add_samples(pool, ["one"], embeddings=[[1.0, 2.0]])
    status, error = shell.refused("mine", pool, 1, "--plan", "margin")
    assert (status, error["code"], error["reason"]) == (4, "FAILED_PRECONDITION", "NEED_MISSING")
    assert "assay train" in error["hint"]
    for_people = shell.run("mine", pool, 2, "--plan", "random")
    assert for_people.returncode == 4
    assert for_people.stderr.startswith("error: POOL_EXHAUSTED: ")
