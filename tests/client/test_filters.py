"""Filters: operators, the text form, and the messages they make."""

import numpy as np
import pytest
from google.protobuf import text_format

from assay.client import Filter, attr, ids, parse_filter
from assay.v1 import types_pb2 as pb


def message(text: str) -> pb.Filter:
    return text_format.Parse(text, pb.Filter())


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (attr("lang") == "en", "compare { attribute: 'lang' op: COMPARE_OP_EQ value { string_value: 'en' } }"),
        (attr("n") != 3, "compare { attribute: 'n' op: COMPARE_OP_NE value { int64_value: 3 } }"),
        (attr("n") < 0.5, "compare { attribute: 'n' op: COMPARE_OP_LT value { double_value: 0.5 } }"),
        (attr("n") <= np.int32(4), "compare { attribute: 'n' op: COMPARE_OP_LE value { int64_value: 4 } }"),
        (attr("n") > np.float64(4), "compare { attribute: 'n' op: COMPARE_OP_GT value { double_value: 4 } }"),
        (attr("ok") == np.True_, "compare { attribute: 'ok' op: COMPARE_OP_EQ value { bool_value: true } }"),
        (attr("n").isin([1]), "one_of { attribute: 'n' values { int64_value: 1 } }"),
        (ids(["a", "b"]), "ids { ids: 'a' ids: 'b' }"),
        (~ids(["a"]), "negation { ids { ids: 'a' } }"),
        (ids(["a"]) | ids(["b"]), "any_of { filters { ids { ids: 'a' } } filters { ids { ids: 'b' } } }"),
    ],
)
def test_operators_make_messages(made: Filter, expected: str) -> None:
    assert made.to_proto() == message(expected)


def test_a_chain_stays_one_level_deep() -> None:
    chain = ids(["0"])
    for number in range(1, 40):
        chain &= ids([str(number)])
    assert [part.ids.ids[0] for part in chain.to_proto().all_of.filters] == [str(number) for number in range(40)]


def test_operands_are_not_changed() -> None:
    left, right = ids(["a"]) & ids(["b"]), ids(["c"])
    before = pb.Filter.FromString(left.to_proto().SerializeToString())
    _ = left & right
    assert left.to_proto() == before


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("lang=en", attr("lang") == "en"),
        ("lang == en", attr("lang") == "en"),
        ("score>=0.5, n != 3", (attr("score") >= 0.5) & (attr("n") != 3)),
        ("ok=true and big<-1e3", (attr("ok") == True) & (attr("big") < -1000.0)),  # noqa: E712
        ('zip="01234"', attr("zip") == "01234"),
        ('a="x, y and \\"z\\"",b<2', (attr("a") == 'x, y and "z"') & (attr("b") < 2)),
        ("city=New York", attr("city") == "New York"),
        ("brand=sand and n=1", (attr("brand") == "sand") & (attr("n") == 1)),
    ],
)
def test_text_form(text: str, same_as: Filter) -> None:
    assert parse_filter(text) == same_as


@pytest.mark.parametrize("text", ["", "lang", "lang=", "=en", "lang~en", "a=1,,b=2", 'a="open', 'a="\\x"', "1a=2"])
def test_unreadable_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        parse_filter(text)


def test_python_keywords_are_refused() -> None:
    with pytest.raises(TypeError, match="truth value"):
        _ = attr("a") == 1 and attr("b") == 2  # type: ignore[unreachable]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1], b"x"])
def test_values_that_no_attribute_has_are_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        _ = attr("a") == value


def test_one_string_is_not_several_values() -> None:
    with pytest.raises(TypeError):
        ids("abc")
    with pytest.raises(TypeError):
        attr("a").isin("abc")


def test_reads_like_a_sentence() -> None:
    made = (attr("lang") == "en") & ~((attr("n") < 3) | attr("n").isin([7, 8]))
    assert repr(made) == "Filter(lang = 'en' and not (n < 3 or n in (7, 8)))"
