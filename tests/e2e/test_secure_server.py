"""A server for other machines: TLS, an API key, metrics; through the SDK and the command."""

import json
import os
import subprocess
import sys
import urllib.request

import pytest

from assay.client import Classification, Client, RetryPolicy, Unauthenticated, Unavailable
from assay.client.testing import start_server
from tests.rpc.test_tls import Authority

KEY = "a-key-that-is-long-enough"
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """(HOST:PORT, the authority's file, the server) of a server that listens on every address."""
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority()
    certificate, key = authority.issue()
    contents = {
        "ca.pem": authority.pem,
        "cert.pem": certificate,
        "key.pem": key,
        "keys": f"{KEY} role=admin\n".encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with start_server(
        folder / "assay",
        listen="0.0.0.0:0",
        tls_cert=folder / "cert.pem",
        tls_key=folder / "key.pem",
        api_key_file=folder / "keys",
        metrics_listen="127.0.0.1:0",
        log_format="json",
    ) as server:
        yield f"127.0.0.1:{server.target.rpartition(':')[2]}", folder / "ca.pem", server


def test_the_sdk_gets_in_with_the_authority_and_the_key(secured):
    target, authority, _ = secured
    with Client(target, tls_ca=authority, api_key=KEY) as client:
        client.create_pool("secret", task=Classification(["a", "b"]))
        client.add_samples("secret", ["one"], embeddings=[[1.0, 2.0]])
        assert client.next_batch("secret", "ann", 1).ids == ["one"]


@pytest.mark.parametrize("key", [None, KEY[:-1], KEY + "x", KEY.upper()])
def test_another_key_or_none_sees_no_more_than_the_health(secured, key):
    target, authority, _ = secured
    with Client(target, tls_ca=authority, api_key=key) as client:
        assert client.health() == "SERVING"
        with pytest.raises(Unauthenticated) as caught:
            list(client.list_pools())
    assert caught.value.reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("options", [{}, {"tls": True}])
def test_plain_text_and_other_authorities_get_no_answer(secured, options):
    target, _, _ = secured
    with Client(target, api_key=KEY, retry=ONCE, **options) as client, pytest.raises(Unavailable):
        client.health()


def test_the_command_takes_both_from_the_environment(secured):
    target, authority, _ = secured
    ours = {"ASSAY_SERVER": target, "ASSAY_TLS_CA": str(authority), "ASSAY_API_KEY": KEY}
    command = [sys.executable, "-m", "assay.client.cli", "status", "--json"]
    done = subprocess.run(command, env=os.environ | ours, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["health"] == "SERVING"
    assert KEY not in done.stdout + done.stderr


def test_metrics_are_told_on_loopback_and_the_key_nowhere(secured):
    target, authority, server = secured
    with Client(target, tls_ca=authority, api_key=KEY) as client:
        list(client.list_pools())
    log = server.log.read_text()
    address = next(event["address"] for event in map(json.loads, log.splitlines()) if event["event"] == "metrics")
    text = urllib.request.urlopen(address, timeout=30).read().decode()
    assert 'assay_requests_total{code="OK",method="/assay.v1.Pools/ListPools"}' in text
    assert KEY not in log + text
