"""What is known of a model, as the catalog keeps it."""

from assay.server.adapters.sql.codec import info_from_json, info_to_json
from assay.server.core.records.models import BackboneInfo, ModelKind
from tests.catalog.records import BACKBONE, HEAD


def test_what_is_known_of_a_model_comes_back() -> None:
    assert info_from_json(ModelKind.BACKBONE, info_to_json(BACKBONE)) == BACKBONE
    assert info_from_json(ModelKind.HEAD, info_to_json(HEAD)) == HEAD


def test_a_backbone_of_before_is_run_the_way_that_is_right_for_all() -> None:
    """A catalog that was written before trials were kept says nothing of what they found."""
    kept = info_to_json(BACKBONE)
    for name in ("data_files", "classes", "trims_padding", "one_by_one"):
        del kept[name]
    info = info_from_json(ModelKind.BACKBONE, kept)
    assert isinstance(info, BackboneInfo)
    assert (info.data_files, info.trims_padding, info.one_by_one) == ((), False, True)
    assert info.sha256 == BACKBONE.sha256
