"""The history of a pool, page by page."""

from assay.server.core.labeling.exporting import PAGE, Row
from assay.server.core.pools.messages import PoolUpdate
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import Policy
from tests.core.kit import POOL, House, annotate, fill, make_pool, names


def history(core) -> tuple[list[str], list[list[Row]]]:
    table = core.annotations.export(POOL, history=True)
    return [column.name for column in table.columns], list(table.pages)


def test_a_history_has_every_event_in_order_and_in_pages(house: House) -> None:
    core = house.open()
    make_pool(core)
    fill(core, PAGE + 500)
    annotate(core, dict.fromkeys(names(0, PAGE + 500), "ant"), worker="ann")
    for number in range(9):
        house.clock.advance(1)
        annotate(core, {f"s{number}": "bee"}, worker="bob")
    begun = core.annotations.export(POOL, history=True).pages
    annotate(core, {"s20": "cow"}, worker="cy")
    assert sum(map(len, begun)) == PAGE + 509, "what is said afterwards is not in it"
    core.samples.delete(POOL, names(0, 3), False, NO_KEY)
    columns, pages = history(core)
    assert [len(page) for page in pages] == [PAGE, 504]
    rows = [dict(zip(columns, row, strict=True)) for page in pages for row in page]
    assert [row["event"] for row in rows] == sorted(row["event"] for row in rows)
    assert {row["sample_id"] for row in rows} == set(names(3, PAGE + 500))
    assert [row["class_name"] for row in rows[-7:]] == ["bee"] * 6 + ["cow"]
    assert rows[-1]["time"] == rows[-1]["create_time"] == round(house.clock.now() * 1_000_000)


def test_what_the_server_derived_is_told_as_such(house: House) -> None:
    core = house.open()
    make_pool(core)
    fill(core, 4)
    for worker, class_name in (("ann", "ant"), ("bob", "bee")):
        annotate(core, {"s0": class_name}, worker=worker)
    core.updates.update(POOL, PoolUpdate(policy=Policy.UNANIMOUS, annotations_per_sample=2), NO_KEY)
    columns, (page,) = history(core)
    last = dict(zip(columns, page[-1], strict=True))
    assert (last["kind"], last["worker"], last["class_name"]) == ("resolve", "", None)
