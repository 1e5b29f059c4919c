"""The annotation tool's story in short, on a catalog in PostgreSQL, with a restart in the middle."""

import pytest

from assay.client import LeaseForeign
from assay.client.testing import ServerFailed, ServerProcess, start_server
from tests.e2e.corpus import CLASSES


def test_the_job_survives_a_restart_and_no_second_server_gets_in(postgres_url, corpus, tmp_path):
    with start_server(tmp_path, catalog_url=postgres_url, log_level="warning") as server:
        with server.client() as client:
            corpus.create(client, "news")
            first = client.next_batch("news", "ann", 30, ttl=600)
            assert client.annotate("news", corpus.answers(first.ids), "ann", lease=first.lease).stored == 30
            head = client.train_head("news").result(timeout=60)
            second = client.next_batch("news", "ann", 6, ttl=600, request_id="second")
            assert second.provenance.head == head.name
            before = client.get_pool("news")
        with pytest.raises(ServerFailed, match="status 3"):
            ServerProcess(tmp_path / "other", catalog_url=postgres_url).start()
        assert server.stop() == 0
        server.start()
        with server.client() as client:
            after = client.get_pool("news")
            assert (after.counts, after.active_head) == (before.counts, before.active_head)
            assert client.next_batch("news", "ann", 6, ttl=600, request_id="second").lease == second.lease
            third = client.next_batch("news", "bob", 6)
            assert not set(third.ids) & set(second.ids)
            assert third.lease.fencing_token > second.lease.fencing_token
            with pytest.raises(LeaseForeign):
                client.annotate("news", corpus.answers(second.ids), "bob", lease=second.lease)
            assert client.annotate("news", corpus.answers(second.ids), "ann", lease=second.lease).stored == 6
            labels = {label.sample_id: label.value for label in client.list_labels("news")}
            assert labels == corpus.answers(sorted([*first.ids, *second.ids]))
            assert set(labels.values()) <= set(CLASSES)
    assert not (server.data_dir / "catalog.db").exists()
