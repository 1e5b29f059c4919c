"""The calls about those who label."""

from assay.client import _replies, results
from assay.client._names import pool_name
from assay.client._wire import Pages, pages
from assay.v1 import audits_pb2, methods


def list_annotators(pool: str) -> Pages[results.Annotator]:
    """What each annotator did, by name, fetched page by page.

    Skills are estimated together with the labels over the samples that several annotated, so a pool that asks one
    annotation of each sample has none.
    """
    return pages(
        methods.LIST_ANNOTATORS,
        audits_pb2.ListAnnotatorsRequest(parent=pool_name(pool)),
        lambda reply: map(_replies.annotator, reply.annotators),
    )
