"""Plans go to the wire and back without loss."""

import pytest

from assay.client import Plan, Shortlist, attr, scorer, selector
from assay.client.plans import plan_from_proto, plan_to_proto
from assay.v1 import types_pb2 as pb

FULL = Plan(
    where=attr("lang") == "en",
    scores=(scorer("margin", strength=2.0), scorer("density", neighbours=20.0, metric="l2")),
    shortlist=Shortlist(per_pick=50),
    select=selector("k_center", start="labeled"),
    exploration=0.25,
)


@pytest.mark.parametrize(
    "plan",
    [
        FULL,
        Plan.preset("margin"),
        Plan.preset("margin", exploration=0.1, shortlist=Shortlist(size=10), where=attr("n") > 1),
        Plan(select=selector("random")),
    ],
)
def test_round_trip(plan: Plan) -> None:
    message = plan_to_proto(plan)
    assert message is not None
    assert plan_from_proto(pb.Plan.FromString(message.SerializeToString())) == plan
    assert Plan.from_dict(plan.to_dict()) == plan


def test_a_name_is_a_preset_and_nothing_stays_unset() -> None:
    assert plan_to_proto("badge") == pb.Plan(preset="badge")
    assert plan_to_proto(None) is None


def test_terms_are_written_out() -> None:
    message = plan_to_proto(FULL)
    assert message is not None
    assert [term.strategy for term in message.scores] == ["margin", "density"]
    assert message.scores[1].params["neighbours"] == 20
    assert message.shortlist.per_pick == 50
    assert message.select.params["start"] == "labeled"


@pytest.mark.parametrize("given", [{}, {"size": 1, "per_pick": 2}])
def test_a_shortlist_has_one_measure(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="either size or per_pick"):
        Shortlist(**given)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="no plan"):
        Plan.from_dict({"preset": "margin", "sizes": 3})
