"""Plans go to the wire and back without loss."""

import pytest

from assay.client import ObjectUncertainty, Plan, Quota, Quotas, Shortlist, Stochastic, attr, scorer, selector
from assay.client.plans import plan_from_proto, plan_to_proto
from assay.v1 import types_pb2 as pb

FULL = Plan(
    where=attr("lang") == "en",
    scores=(scorer("margin", strength=2.0), scorer("density", neighbours=20.0, metric="l2")),
    shortlist=Shortlist(per_pick=50),
    select=selector("k_center", start="labeled"),
    exploration=0.25,
    combination="rank_sum",
    stochastic=Stochastic("softrank", 2.5),
    quotas=Quotas((Quota("en", 2, 8), Quota("de", target=0.25), Quota("fr", maximum=0)), by="lang"),
    near_duplicate_radius=0.125,
    query=("a", "b"),
    draw_from="suspects",
    overlap_share=0.125,
    overlap_annotations=3,
    prediction_source="mine",
    objects=ObjectUncertainty("margin", "top_m", 3, {"ant": 2.0}, "mean", 0.5),
)


@pytest.mark.parametrize(
    "plan",
    [
        FULL,
        Plan.preset("margin"),
        Plan.preset("margin", exploration=0.1, shortlist=Shortlist(size=10), where=attr("n") > 1),
        Plan(select=selector("random")),
        Plan.preset("margin", shortlist=Shortlist(neighbors=100), stochastic=Stochastic()),
        Plan.preset("margin", shortlist=Shortlist(size=9, order="random"), query=("a",), near_duplicate_radius=1.0),
        Plan.preset("badge", quotas=Quotas((Quota("ant", minimum=1), Quota("", 0, 3)))),
        Plan.preset("badge", quotas=Quotas((Quota(3, 1), Quota(True), Quota(0.5)), by="n")),
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
    assert [quota.HasField("maximum") for quota in message.quotas.quotas] == [True, False, True]


@pytest.mark.parametrize("given", [{}, {"size": 1, "per_pick": 2}, {"size": 1, "neighbors": 2}])
def test_a_shortlist_has_one_measure(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="either size or per_pick or neighbors"):
        Shortlist(**given)


def test_words_that_no_server_knows_are_refused() -> None:
    with pytest.raises(ValueError, match="softrank"):
        plan_to_proto(Plan(scores=(scorer("margin"),), stochastic=Stochastic("loud")))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one string"):
        plan_to_proto(Plan.preset("gcmi", query="abc"))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="no plan"):
        Plan.from_dict({"preset": "margin", "sizes": 3})
