"""The `assay` command without a server: what it reads, and how it ends when something is wrong."""

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import typer

from assay.client import (
    Box,
    Boxes,
    Classification,
    Filter,
    Freeform,
    Json,
    MultiLabel,
    Plan,
    Quota,
    Quotas,
    Regression,
    SampleBatch,
    Span,
    Spans,
    attr,
    errors,
    selector,
)
from assay.client._files import Missing, Table
from assay.client.cli import main
from assay.client.cli.add import FieldNames, arrays_batch, read_batch, table_batch
from assay.client.cli.arguments import read_plan, read_where
from assay.client.cli.composing import Additions
from assay.client.cli.failures import exit_status
from assay.client.cli.output import plain, preview
from assay.client.cli.plugins import add_plugins, as_app, load
from assay.client.cli.tasks import read_pairs, read_target, read_task, read_values, target_text
from assay.client.results import Sample
from assay.client.tasks import Task
from tests.client.scripted import Refusal, scripted

NAMES = FieldNames("id", "text", "payload", "label", "uri", "embedding", ("n",))


@pytest.fixture
def nowhere() -> str:
    """An address where no server listens any more."""
    with scripted() as script:
        return script.target


def test_no_server_is_status_3(nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--server", nowhere, "pool", "list"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: UNAVAILABLE: ")
    assert "assay serve" in err


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refusal(grpc.StatusCode.INTERNAL, "bug", "INTERNAL"), 5),
        (Refusal(grpc.StatusCode.DATA_LOSS, "flipped", "SEGMENT_DAMAGED"), 5),
        (Refusal(grpc.StatusCode.UNAUTHENTICATED, "who", "UNAUTHENTICATED"), 4),
        (Refusal(grpc.StatusCode.FAILED_PRECONDITION, "none left", "POOL_EXHAUSTED", {"left": "0"}), 4),
    ],
)
def test_statuses_of_refusals(refusal: Refusal, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(Mine=[refusal]) as script:
        assert main(["--server", script.target, "mine", "p", "3", "--json"]) == status
    told = json.loads(capsys.readouterr().err)["error"]
    assert (told["code"], told["reason"], told["message"]) == (refusal.code.name, refusal.reason, refusal.message)
    assert told.get("metadata", {}) == refusal.metadata


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), 2),
        (FileNotFoundError("no"), 2),
        (Missing("no"), 3),
        (errors.Unavailable("no"), 3),
        (errors.NotFound("no"), 4),
        (errors.ResourceExhausted("no"), 4),
        (errors.DeadlineExceeded("no"), 5),
        (errors.Cancelled("no"), 5),
        (errors.Internal("no"), 5),
    ],
)
def test_exit_statuses(error: Exception, status: int) -> None:
    assert exit_status(error) == status


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["mine", "p"],
        ["mine", "p", "0"],
        ["mine", "p", "3", "--where", "lang"],
        ["mine", "p", "3", "--plan", "{"],
        ["mine", "p", "3", "--plan", '{"nonsense": 1}'],
        ["mine", "p", "3", "--plan", "@/does/not/exist"],
        ["score", "p", "--state", "gone"],
        ["pool", "create", "p", "--metric", "cosinus"],
        ["pool", "get", "a/b"],
        ["pool", "delete", "p"],
        ["add", "p", "--from", "/does/not/exist.jsonl"],
        ["search", "p"],
        ["predict", "p"],
        ["annotate", "p", "--worker", "ann"],
        ["annotate", "p", "d1", "--worker", "ann"],
        ["export", "p", "--json"],
        ["--api-key", "k", "--server", "assay.example:1", "pool", "list"],
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str], nowhere: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_SERVER", nowhere)
    assert main(arguments) == 2
    assert any(capsys.readouterr())


def test_version_and_help_need_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("assay ")
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    commands = [
        "serve",
        "pool",
        "add",
        "model",
        "train",
        "strategies",
        "score",
        "mine",
        "next",
        "label",
        "export",
        "status",
    ]
    assert [command for command in [*commands, "status"] if command not in shown] == []


def test_conditions_are_joined() -> None:
    assert read_where(None) is None
    joined: Filter | None = read_where(["lang=en", "n>3"])
    assert joined == (attr("lang") == "en") & (attr("n") > 3)


def test_a_plan_is_a_name_or_json() -> None:
    assert read_plan(None) is None
    assert read_plan("badge") == "badge"
    plan = read_plan('{"preset": "margin", "exploration": 0.5}')
    assert plan is not None
    assert not isinstance(plan, str)
    assert (plan.name, plan.exploration) == ("margin", 0.5)


def records_batch(records: list[dict[str, Any]]) -> SampleBatch:
    """The samples of JSON records."""
    attributes = [name for name in NAMES.attributes if any(name in record for record in records)]
    return table_batch(Table.of_records(records), replace(NAMES, attributes=attributes))


def test_records_become_columns() -> None:
    batch = records_batch(
        [
            {"id": "a", "text": "x", "label": "ant", "n": 1, "embedding": [1, 2]},
            {"id": 7, "text": None, "attributes": {"lang": "en"}, "embedding": [3, 4]},
        ],
    )
    assert (batch.ids, batch.payloads, batch.labels, batch.uris) == (["a", "7"], ["x", None], ["ant", None], None)
    assert batch.embeddings.dtype == np.float32
    assert batch.attributes == {"n": [1, None], "lang": [None, "en"]}
    np.testing.assert_array_equal(batch.embeddings, [[1, 2], [3, 4]])


def test_payloads_may_be_json() -> None:
    batch = records_batch([{"id": "a", "payload": {"title": "x"}}, {"id": "b"}])
    assert batch.payloads == [{"title": "x"}, None]


def test_class_0_and_what_else_is_falsy_is_kept() -> None:
    batch = records_batch([{"id": 0, "label": 0, "n": 0, "payload": {}}, {"id": 1, "label": 0, "n": 0}])
    assert (batch.ids, batch.labels, batch.payloads) == (["0", "1"], [0, 0], [{}, None])
    assert batch.attributes == {"n": [0, 0]}


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({}, r"id\[1\] is missing"),
        ({"id": True}, r"id\[1\] is True, a bool"),
        ({"id": 1.0}, r"id\[1\] is 1.0, a float"),
        ({"id": "a", "embedding": [1, 2], "attributes": [1]}, r"attributes\[1\] \(id 'a'\) is \[1\], and no object"),
        ({"id": "a", "embedding": [1]}, r"embedding\[1\] \(id 'a'\) has the shape \(1,\)"),
        ({"id": "a", "embedding": "x"}, r"embedding\[1\] \(id 'a'\) is 'x', a str"),
        ({"id": "a", "embedding": [1, "x"]}, r"embedding\[1\]\[1\] \(id 'a'\) is 'x', a str"),
        ({"id": "a"}, r"embedding\[1\] \(id 'a'\) is missing"),
    ],
)
def test_records_that_cannot_be_read(record: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        records_batch([{"id": "z", "embedding": [1, 2]}, record])


def test_lines_that_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    for line, error in (("[1]", "line 2 is no JSON object"), ("{", "line 2 is no JSON")):
        path.write_text(f'{{"id": "a"}}\n{line}\n')
        with pytest.raises(ValueError, match=error):
            read_batch(path, NAMES, None, None)


def test_files_of_embeddings_and_inputs_go_with_records(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"id": "a"}\n')
    np.savez(tmp_path / "tokens.npz", input_ids=np.ones((1, 3), np.int64))
    batch = read_batch(path, FieldNames(), None, tmp_path / "tokens.npz")
    assert batch.inputs is not None
    assert batch.inputs["input_ids"].shape == (1, 3)
    np.save(tmp_path / "e.npy", np.zeros((1, 2), np.float32))
    assert isinstance(read_batch(path, FieldNames(), tmp_path / "e.npy", None).embeddings, np.memmap)


def test_arrays_of_unknown_names_are_refused(tmp_path: Path) -> None:
    for arrays in ({"embeddings": np.eye(1)}, {"ids": np.array(["a"]), "vectors": np.eye(1)}):
        np.savez(tmp_path / "s.npz", **arrays)
        with pytest.raises(ValueError, match="ids is needed"):
            arrays_batch(tmp_path / "s.npz")


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        arrays_batch(tmp_path / "s.npz")


def test_labels_may_have_ids_with_equals_signs() -> None:
    assert read_pairs(["a=b=ant", "c=bee"], "ID=CLASS") == {"a=b": "ant", "c": "bee"}
    with pytest.raises(ValueError, match="named twice"):
        read_pairs(["a=ant", "a=bee"], "ID=CLASS")


@pytest.mark.parametrize(
    ("task", "text", "value"),
    [
        (MultiLabel(["sad", "funny"]), "a=sad, funny", ["sad", "funny"]),
        (MultiLabel(["a,b"]), 'a=["a,b"]', ["a,b"]),
        (MultiLabel(["sad"]), "a=", []),
        (Regression(["rent"]), "a=-5", {"rent": -5.0}),
        (Regression(["rent", "size"]), "a=rent=5,size=0", {"rent": 5.0, "size": 0.0}),
        (Regression(["a=b,c"]), 'a={"a=b,c": 1}', {"a=b,c": 1}),
        (Boxes(["car"]), 'a=[{"class_name": "car", "x": 0, "y": 0, "w": 1, "h": 1}]', [Box("car", 0, 0, 1, 1)]),
        (Spans(["name"]), 'a=[{"class_name": "name", "start": 0, "end": 2}]', [Span("name", 0, 2)]),
        (Freeform(), 'a={"b": "c=d"}', Json({"b": "c=d"})),
        (Freeform(), "a=0", Json(0)),
    ],
)
def test_values_of_each_task_are_written_on_the_command_line(task: Task, text: str, value: object) -> None:
    assert read_values(task, [text]) == {"a": value}


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Classification(["a"]), "a="),
        (Regression(["rent", "size"]), "a=5"),
        (Regression(["rent"]), "a=rent=much"),
        (Boxes(["car"]), "a=car"),
        (Freeform(), "a={"),
        (Freeform(), "a="),
        (MultiLabel(["sad"]), "sad"),
    ],
)
def test_what_is_no_value_of_the_task_is_named(task: Task, text: str) -> None:
    with pytest.raises(ValueError, match=r"'a|a=|'sad'"):
        read_values(task, [text])


def test_numbers_are_asked_for_within_bounds() -> None:
    for text in ("rent", "rent=0..", "t=-5..40", "share=..1"):
        assert target_text(read_target(text)) == text
    for text in ("rent=5", "rent=a..b", "rent="):
        with pytest.raises(ValueError, match=r"MIN\.\.MAX"):
            read_target(text)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (("votes", [], [], False), "multilabel"),
        (("regression", ["a"], ["rent"], False), "no classes"),
        (("boxes", ["car"], ["rent"], False), "--number"),
        (("boxes", ["car"], [], True), "--disjoint"),
    ],
)
def test_options_of_another_task_are_refused(given: tuple[str, list[str], list[str], bool], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read_task(*given)


def sample(payload: bytes) -> Sample:
    return Sample("a", "", payload, "", {}, "unlabeled", None, 0)


def test_payloads_that_are_no_text() -> None:
    assert plain(sample(b"\x89PNG\xff"))["payload_base64"] == "iVBOR/8="
    assert plain(sample(b"\x89PNG\xff"))["payload"] is None
    assert plain(sample("süß".encode()))["payload"] == "süß"
    assert preview(sample(b"\x89PNG\xff")) == "(5 bytes of data)"


def test_previews_are_one_short_line() -> None:
    shown = preview(sample(b"a\nb " + b"x" * 500))
    assert shown.startswith("a b xxx")
    assert len(shown) == 80


def plugin(value: str) -> EntryPoint:
    return EntryPoint("dig", value, "assay.commands")


def test_a_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(Missing, match=r"pip install '\.\[server\]'"):
        load(plugin("no_such_package_anywhere:command"))


def test_entry_points_become_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A plug-in gets all that follows its name, its own --help included."""
    monkeypatch.setattr(
        "assay.client.cli.plugins.entry_points", lambda group: [plugin("tests.client.test_cli_usage:dig")]
    )
    app = typer.Typer()
    app.callback()(lambda: None)
    add_plugins(app)
    for arguments, expected in ((["dig", "--depth", "3", "here"], "here 3"), (["dig", "--help"], "Dig somewhere.")):
        with pytest.raises(SystemExit) as ended:
            app(args=arguments)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


def test_an_entry_point_may_be_an_app() -> None:
    app = typer.Typer()
    assert as_app(app) is app


def dig(place: str, depth: int = 1) -> None:
    """Dig somewhere."""
    typer.echo(f"{place} {depth}")


def test_options_add_to_a_plan(tmp_path: Path) -> None:
    added = Additions(0.2, 0.5, ("a", "b"), ("ant=2..5", "bee=3", "cow=..4", "dog=1..", "emu=30%"))
    plan = added.to("badge")
    bounds = (Quota("ant", 2, 5), Quota("bee", 3, 3), Quota("cow", 0, 4), Quota("dog", 1), Quota("emu", target=0.3))
    assert plan == Plan.preset(
        "badge", exploration=0.2, near_duplicate_radius=0.5, query=("a", "b"), quotas=Quotas([*bounds])
    )
    assert Additions().to("badge") == "badge"
    assert Additions().to(None) is None
    assert Additions(apart=0.5).to(None) == Plan(near_duplicate_radius=0.5)
    assert Additions(draw_from="suspects").to(None) == Plan(draw_from="suspects")
    with pytest.raises(ValueError, match="choose from unlabeled, suspects, disputed, all"):
        Additions(draw_from="pool").to("margin")
    assert Additions(explore=0).to(None) is None
    whole = Plan(select=selector("random"), query=("q",), exploration=0.5)
    assert Additions(explore=0).to(json.dumps(whole.to_dict())) == replace(whole, exploration=0.0)


def test_groups_by_attribute_are_read_as_its_values() -> None:
    quotas = Additions(quota=("3=1", "true=2..", 'x="y"=1'), by="n").to("margin").quotas  # type: ignore[union-attr]
    assert quotas is not None
    assert [quota.value for quota in quotas.quotas] == [3, True, 'x="y"']
    by_class = Additions(quota=("3=1",)).to("margin").quotas  # type: ignore[union-attr]
    assert by_class is not None
    assert by_class.quotas == [Quota("3", 1, 1)]


@pytest.mark.parametrize("text", ["ant", "=3", "ant=", "ant=..", "ant=x", "ant=-1", "ant=1...2", "ant=%"])
def test_what_is_no_quota_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quota"):
        Additions(quota=(text,)).to("margin")


def test_an_attribute_without_quotas_is_refused() -> None:
    with pytest.raises(ValueError, match="give some"):
        Additions(by="lang").to("margin")
