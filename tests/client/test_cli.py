"""The `assay` command against a real server: what it prints, and how it ends."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.client import Client
from assay.client.cli import main
from assay.client.testing import ServerProcess

CLASSES = ("ant", "bee")
SAMPLES = 40
LABELED = 8

Assay = Callable[..., str]
AssayJson = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with samples.jsonl and embeddings.npy: two classes apart, the first few labeled."""
    rng = np.random.default_rng(7)
    records = [
        {
            "id": f"d{row}",
            "text": f"[bold]text {row}",
            "label": CLASSES[row % 2] if row < LABELED else None,
            "attributes": {"lang": "en" if row % 4 else "de"},
            "n": row,
        }
        for row in range(SAMPLES)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    centers_CD = np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0]])
    embeddings_ND = centers_CD[np.arange(SAMPLES) % 2] + rng.normal(size=(SAMPLES, 4))
    np.save(tmp_path / "embeddings.npy", embeddings_ND.astype(np.float32))
    return tmp_path


@pytest.fixture
def assay(assay_server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> Assay:
    """Runs the command, which must end well; returns what it prints."""

    def run(*arguments: object) -> str:
        status = main(["--server", assay_server.target, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out

    return run


@pytest.fixture
def assay_json(assay: Assay) -> AssayJson:
    """Runs the command with --json; returns the document."""
    return lambda *arguments: json.loads(assay(*arguments, "--json"))


@pytest.fixture
def pool(request: pytest.FixtureRequest, assay: Assay, assay_json: AssayJson, files: Path) -> str:
    """A pool of this test, filled through the command."""
    name = request.node.name.split("[")[0].replace("_", "-")[:60]
    assay("pool", "create", name, "-c", "ant", "-c", "bee")
    added = assay_json(
        "add", name, "--from", files / "samples.jsonl", "--embeddings", files / "embeddings.npy", "-a", "n"
    )
    assert added["added"] == SAMPLES
    return name


def test_a_pool_from_file_to_export(pool: str, assay: Assay, assay_json: AssayJson, files: Path) -> None:
    """The main road: train, mine, lease, label, export."""
    head = assay_json("train", pool, "--seed", 3)
    assert (head["kind"], head["active"], head["head"]["labels"]) == ("head", True, LABELED)

    mined = assay_json("mine", pool, 5, "--where", "lang=en", "--where", "n>=20")
    rows = [pick["sample"]["attributes"]["n"] for pick in mined["picks"]]
    assert len(rows) == 5
    assert all(row >= 20 and row % 4 for row in rows)
    assert mined["provenance"]["head"] == head["name"]

    batch = assay_json("next", pool, 3, "--worker", "ann", "--ttl", 60)
    lease, first = batch["lease"], batch["picks"][0]["sample"]
    assert first["payload"].startswith("[bold]text")
    stored = assay_json(
        *("annotate", pool, f"{first['id']}=bee", "--worker", "ann"),
        *("--lease", lease["name"], "--token", lease["fencing_token"]),
    )
    assert (stored["stored"], stored["lease_remaining"]) == (1, 2)

    out = files / "labels.jsonl"
    assay("export", pool, "--out", out)
    exported = {record["sample_id"]: record["class_name"] for record in map(json.loads, out.read_text().splitlines())}
    assert len(exported) == LABELED + 1
    assert exported[first["id"]] == "bee"
    assert assay("export", pool) == out.read_text()
    reports = assay_json("annotators", pool)["annotators"]
    assert sum(report["annotations"] for report in reports) == LABELED + 1
    audited = assay_json("audit", pool, "--kind", "neighbors", "--kind", "annotators", "--top", 1)
    assert [each["kind"] for each in audited["audit"]["kinds"]] == ["neighbors", "annotators"]
    found = assay_json("suspects", pool, "--min-score", 0.1)["suspects"]
    assert len(found) == sum(each["found"] for each in audited["audit"]["kinds"])
    assert audited["suspects"] == found[:1]
    assert "suggested" in assay("audit", pool)


def test_a_pool_s_classes_are_edited_by_name(pool: str, assay: Assay, assay_json: AssayJson) -> None:
    edits = ("--add-class", "cow", "--rename", "ant=emu", "--merge", "bee=cow", "--metadata", "team=birds")
    changed = assay_json("pool", "update", pool, *edits, "--annotations-per-sample", "2", "--policy", "unanimous")
    classes = [(each["name"], each["retired"], each["merged_into"]) for each in changed["task"]["classes"]]
    assert classes == [("emu", False, None), ("cow", False, None), ("bee", True, 2)]
    assert (changed["policy"], changed["annotations_per_sample"]) == ("unanimous", 2)
    assert changed["metadata"] == {"team": "birds"}
    assert "unanimous" in assay("pool", "get", pool)


def test_tables_show_what_json_says(pool: str, assay: Assay, assay_json: AssayJson) -> None:
    assert pool in assay("pool", "list")
    report = assay_json("status")
    assert report["health"] == "SERVING"
    (listed,) = (entry for entry in report["pools"] if entry["name"] == f"pools/{pool}")
    assert listed["counts"]["labeled"] == LABELED
    table = assay("status")
    assert "SERVING" in table
    (line,) = (line for line in table.splitlines() if line.startswith(pool))
    assert line.split()[1:7] == ["classification", "open", str(SAMPLES - LABELED), "0", "0", str(LABELED)]


def test_text_is_not_taken_for_markup(pool: str, assay: Assay) -> None:
    assert "[bold]text 9" in assay("mine", pool, SAMPLES - LABELED, "--plan", "random")


def test_a_plan_comes_as_name_json_or_file(pool: str, assay_json: AssayJson, files: Path) -> None:
    text = '{"preset": "random", "exploration": 0.5}'
    (files / "plan.json").write_text(text)
    by_text = assay_json("mine", pool, 4, "--plan", text)
    by_file = assay_json("mine", pool, 4, "--plan", f"@{files / 'plan.json'}")
    assert by_text["picks"] == by_file["picks"]
    assert by_text["plan"]["exploration"] == 0.5
    assert len(assay_json("mine", pool, 4, "--plan", "random")["picks"]) == 4


def test_a_dry_run_has_an_estimate_and_no_picks(pool: str, assay: Assay, assay_json: AssayJson) -> None:
    result = assay_json("mine", pool, 4, "--plan", "k_center", "--dry-run")
    assert result["picks"] == []
    assert result["estimate"]["candidates"] == SAMPLES - LABELED
    assert "candidates" in assay("mine", pool, 4, "--plan", "k_center", "--dry-run")


def test_scores_are_the_highest_first(pool: str, assay_json: AssayJson) -> None:
    assay_json("train", pool)
    result = assay_json("score", pool, "--plan", "entropy", "--top", 5)
    scores = [entry["score"] for entry in result["scores"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert result["scored"] == SAMPLES - LABELED


def test_search_and_predict(pool: str, assay: Assay, assay_json: AssayJson, files: Path) -> None:
    hits = assay_json("search", pool, "--sample", "d0", "-k", 4)["hits"][0]
    assert "d0" not in [hit["sample"]["id"] for hit in hits]
    nearest = assay_json("search", pool, "--vectors", files / "embeddings.npy", "-k", 1)["hits"]
    assert [hit[0]["sample"]["id"] for hit in nearest] == [f"d{row}" for row in range(SAMPLES)]
    head = assay_json("train", pool)
    predicted = assay_json("predict", pool, "-s", "d0", "-s", "d1")
    assert predicted["class_names"] == list(CLASSES)
    np.testing.assert_allclose(np.sum(predicted["probs_NC"], axis=1), 1, rtol=1e-5)
    assert head["name"] in assay("predict", pool, "--embeddings", files / "embeddings.npy")


def test_leases_are_listed_renewed_and_released(pool: str, assay: Assay, assay_json: AssayJson) -> None:
    lease = assay_json("next", pool, 2, "--worker", "ann", "--plan", "random")["lease"]
    (listed,) = assay_json("lease", "list", pool)["leases"]
    assert listed["sample_ids"] == lease["sample_ids"]
    proof = (lease["name"], "--token", lease["fencing_token"])
    assert assay_json("lease", "renew", *proof, "--ttl", 3600)["expire_time"] > lease["expire_time"]
    held = assay_json("lease", "release", *proof, "--sample", lease["sample_ids"][0], "--exclude")
    assert held["sample_ids"] == lease["sample_ids"][1:]
    assert assay_json("lease", "release", *proof)["state"] == "done"
    assert "done" in assay("lease", "get", lease["name"])
    assert assay_json("pool", "get", pool)["counts"]["excluded"] == 1


def test_models_are_listed_rolled_back_and_deleted(pool: str, assay: Assay, assay_json: AssayJson) -> None:
    first, second = (assay_json("train", pool, "--name", name)["name"] for name in ("one", "two"))
    assert [model["name"] for model in assay_json("model", "list", pool)["models"]] == [second, first]
    assert assay_json("model", "rollback", pool)["name"] == first
    assert assay_json("model", "activate", pool, second)["active"]
    assay("model", "delete", pool, first.rpartition("/")[2])
    assert second.rpartition("/")[2] in assay("model", "list", pool)
    assert "two" in assay("model", "get", pool, second)


def test_samples_are_listed_and_deleted(pool: str, assay: Assay, assay_json: AssayJson) -> None:
    listed = assay_json("sample", "list", pool, "--state", "labeled", "--limit", 3)["samples"]
    assert [sample["id"] for sample in listed] == ["d0", "d1", "d2"]
    assert assay_json("sample", "delete", pool, "d0", "d1", "--yes")["deleted"] == 2
    assert "[bold]text 2" in assay("sample", "get", pool, "d2")
    assert len(assay_json("label", "list", pool)["labels"]) == LABELED - 2


def test_labels_come_from_a_file(pool: str, assay_json: AssayJson, files: Path) -> None:
    (files / "labels.jsonl").write_text('{"id": "d20", "label": "ant"}\n\n{"id": "d21", "label": "bee"}\n')
    result = assay_json("annotate", pool, "--worker", "ann", "--from", files / "labels.jsonl", "d22=ant")
    assert result["stored"] == 3
    labels = assay_json("label", "list", pool, "--worker", "ann")["labels"]
    assert {label["sample_id"]: label["value"] for label in labels} == {"d20": "ant", "d21": "bee", "d22": "ant"}


def test_strategies_are_listed(assay: Assay, assay_json: AssayJson) -> None:
    known = assay_json("strategies")
    assert {"margin", "k_center"} <= {strategy["name"] for strategy in known["strategies"]}
    assert "margin" in assay("strategies")


def test_samples_come_from_arrays(assay: Assay, assay_json: AssayJson, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "samples.npz",
        ids=np.array(["a", "b"]),
        embeddings=np.eye(2, dtype=np.float32),
        texts=np.array(["x", "y"]),
        labels=np.array(["ant", ""]),
    )
    assay("pool", "create", "from-arrays", "-c", "ant")
    assert assay_json("add", "from-arrays", "--from", tmp_path / "samples.npz")["added"] == 2
    assert assay_json("sample", "get", "from-arrays", "a")["label"] == "ant"
    assay("pool", "delete", "from-arrays", "--yes")
    assert "from-arrays" not in assay("pool", "list")


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("pool", "get", "nowhere"), 4, "POOL_NOT_FOUND"),
        (("pool", "create", "Bad Name"), 4, "INVALID_NAME"),
        (("mine", "nowhere", "3", "--plan", "magic"), 4, "POOL_NOT_FOUND"),
        (("lease", "get", "pools/nowhere/leases/1"), 4, None),
    ],
)
def test_refusals_name_their_reason(
    assay_server: ServerProcess,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    reason: str | None,
) -> None:
    assert main(["--server", assay_server.target, *arguments, "--json"]) == status
    out, err = capsys.readouterr()
    told = json.loads(err)["error"]
    assert out == ""
    assert told["message"]
    if reason:
        assert told["reason"] == reason
    assert main(["--server", assay_server.target, *arguments]) == status
    assert capsys.readouterr().err.startswith(f"error: {told['reason']}: ")


def test_the_same_server_answers_the_sdk(assay_server: ServerProcess, pool: str) -> None:
    with Client(assay_server.target) as client:
        assert client.get_pool(pool).counts.total == SAMPLES


@pytest.fixture
def labeled(assay: Assay, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A pool of the samples, with labels whose names are numbers, and attributes."""
    pool = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-55:].strip("-0123456789")
    assay("pool", "create", pool, "-c", "0", "-c", "1")
    rows = [f"{row},{row % 2},{row},Text {row}\n" for row in range(6)]
    (tmp_path / "rows.csv").write_text("id,label,n,text\n" + "".join(rows))
    np.save(tmp_path / "six.npy", np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32))
    assay("add", pool, "-f", tmp_path / "rows.csv", "--embeddings", tmp_path / "six.npy", "-a", "n")
    return pool
    return pool


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_exported_labels_are_submitted_again(
    assay: Assay, assay_json: AssayJson, tmp_path: Path, labeled: str, suffix: str
) -> None:
    out = tmp_path / f"labels.{suffix}"
    assert assay_json("export", labeled, "--out", out)["format"] == suffix
    again = f"{labeled}-2"
    assay("pool", "create", again, "-c", "0", "-c", "1")
    np.savez(tmp_path / "bare.npz", ids=np.arange(6), embeddings=np.load(tmp_path / "six.npy"))
    assay("add", again, "-f", tmp_path / "bare.npz")
    assert assay_json("annotate", again, "--worker", "ann", "--from", out)["stored"] == 6
    told = [
        {label["sample_id"]: label["value"] for label in assay_json("label", "list", pool)["labels"]}
        for pool in (labeled, again)
    ]
    assert told[0] == told[1] == {str(row): str(row % 2) for row in range(6)}


def test_an_export_without_labels_has_its_head(assay: Assay, tmp_path: Path) -> None:
    assay("pool", "create", "unlabeled", "-c", "0")
    assay("export", "unlabeled", "--out", tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == (
        "sample_id,class_name,class_index,worker,time,annotations,agreement,confidence,decided_by,uri\n"
    )


def test_exported_samples_are_added_again(assay: Assay, assay_json: AssayJson, tmp_path: Path, labeled: str) -> None:
    out = tmp_path / "samples.jsonl"
    assay("sample", "export", labeled, "--out", out)
    again = f"{labeled}-2"
    assay("pool", "create", again, "-c", "0", "-c", "1")
    assert assay_json("add", again, "--from", out)["added"] == 6
    first, second = (assay_json("sample", "list", pool)["samples"] for pool in (labeled, again))
    for pool, samples in ((labeled, first), (again, second)):
        assert [sample.pop("name") for sample in samples] == [f"pools/{pool}/samples/{number}" for number in range(6)]
    assert first == second
    assert first[3]["attributes"] == {"n": 3}
    near = [assay_json("search", pool, "-s", "0", "-k", 1)["hits"] for pool in (labeled, again)]
    assert near[0][0][0]["sample"]["id"] == near[1][0][0]["sample"]["id"]
    assert len(assay("sample", "export", labeled, "--no-embeddings").splitlines()) == 6


def test_replacing_says_what_it_drops(assay: Assay, tmp_path: Path, labeled: str) -> None:
    np.savez(tmp_path / "bare.npz", ids=np.arange(4), embeddings=np.load(tmp_path / "six.npy")[:4])
    told = assay("add", labeled, "-f", tmp_path / "bare.npz", "--on-conflict", "replace")
    assert [line.split() for line in told.splitlines()][2:] == [
        ["replaced", "4"],
        ["labels", "dropped", "4"],
        ["attributes", "dropped", "4"],
    ]


def test_measures_that_there_are_none_of_are_not_shown(assay: Assay, tmp_path: Path) -> None:
    assay("pool", "create", "lonely", "-c", "a", "-c", "b")
    (tmp_path / "two.csv").write_text('id,label,embedding\nx,a,"[1, 0]"\ny,b,"[0, 1]"\n')
    assay("add", "lonely", "-f", tmp_path / "two.csv")
    told = assay("train", "lonely")
    held = [line.split() for line in told.splitlines() if line.startswith("held")]
    assert held == [["held-out", "samples", "0"], ["held", "out", "by", "-"]]


def test_predictions_come_from_files(pool: str, assay: Assay, assay_json: AssayJson, tmp_path: Path) -> None:
    records = [{"id": f"d{row}", "bee": row / 100, "ant": 1 - row / 100} for row in range(SAMPLES)]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert assay_json("predictions", "push", pool, "mine", "--from", tmp_path / "said.jsonl")["updated"] == SAMPLES
    np.savez(tmp_path / "said.npz", ids=np.array(["d1", "d2"]), probabilities=np.array([[0.5, 0.5], [1, 0]]))
    assert "2 samples" in assay("predictions", "push", pool, "other", "--from", tmp_path / "said.npz")
    listed = assay_json("predictions", "list", pool)["sources"]
    assert [(each["id"], each["samples"]) for each in listed] == [("mine", SAMPLES), ("other", 2)]
    assert "mine" in assay("predictions", "list", pool, "--metrics")
    (best,) = assay_json("mine", pool, 1, "--plan", "margin", "--source", "mine")["picks"]
    assert best["sample"]["id"] == f"d{SAMPLES - 1}"
    assay("predictions", "delete", pool, "other", "--yes")
    assert [each["id"] for each in assay_json("predictions", "list", pool)["sources"]] == ["mine"]


@pytest.mark.parametrize(
    ("name", "options", "said", "told"),
    [
        ("multilabel", ("-c", "ant", "-c", "bee"), ("d1=ant,bee", "d2="), "ant, bee"),
        ("regression", ("--number", "legs=0..8", "--number", "size"), ("d1=legs=6,size=2", "d2=legs=0,size=1"), "=2"),
        ("boxes", ("-c", "ant"), ('d1=[{"class_name":"ant","x":0,"y":0,"w":0.5,"h":0.5}]', "d2=[]"), "ant 0.5x0.5 at"),
        ("spans", ("-c", "ant", "--disjoint"), ('d1=[{"class_name":"ant","start":0,"end":4}]', "d2=[]"), "ant 0-4"),
        ("freeform", (), ('d1={"note":"six legs"}', "d2=0"), '{"note": "six legs"}'),
    ],
)  # fmt: skip
def test_a_pool_of_any_task_from_a_shell(
    name: str,
    options: tuple[str, ...],
    said: tuple[str, str],
    told: str,
    assay: Assay,
    assay_json: AssayJson,
    files: Path,
) -> None:
    """Made, filled, annotated, decided and shown with nothing but the command."""
    pool = f"shell-{name}"
    overlap = ("--annotations-per-sample", 2, "--policy", "majority", "--metadata", "owner=ann")
    made = assay_json("pool", "create", pool, "--task", name, *options, *overlap)
    assert made["task"]["kind"] == name
    assert (made["annotations_per_sample"], made["policy"], made["metadata"]) == (2, "majority", {"owner": "ann"})
    assert re.search(rf"^task +{name}", assay("pool", "get", pool), re.MULTILINE)
    records = [json.loads(line) for line in (files / "samples.jsonl").read_text().splitlines()]
    (files / "plain.jsonl").write_text(
        "".join(json.dumps({"id": each["id"], "text": each["text"]}) + "\n" for each in records)
    )
    assay("add", pool, "--from", files / "plain.jsonl", "--embeddings", files / "embeddings.npy")
    for worker in ("ann", "bob"):
        assert assay_json("annotate", pool, *said, "--worker", worker)["stored"] == 2
    assert assay_json("pool", "get", pool)["counts"]["labeled"] == 2
    assert told in assay("label", "list", pool)
    assert assay_json("review", "set", pool, said[1].replace("d2", "d3", 1), "--worker", "rita")["decided"] == 1
    with pytest.raises(AssertionError, match="weighted"):
        assay("label", "resolve", pool)
    assay("pool", "update", pool, "--policy", "weighted")
    assert assay_json("label", "resolve", pool)["samples"] == 2
