"""TLS and API keys, with a throwaway CA."""

import datetime
import ipaddress

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from assay.server.app.config import ConfigError
from assay.v1 import pools_pb2
from tests.rpc.stubs import Stubs, failure

KEY = "a-key-that-is-long-enough"
LIST = pools_pb2.ListPoolsRequest()
LOOPBACK = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


class Authority:
    """A CA that signs certificates for loopback."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("throwaway")
        certificate = _builder(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = _pem(certificate.sign(self._key, hashes.SHA256()))

    def issue(self):
        """(certificate, key) as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name("127.0.0.1"), self._name, key.public_key()).add_extension(LOOPBACK, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(builder.sign(self._key, hashes.SHA256())), private


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(subject, issuer, public_key):
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def flags(authority, tmp_path):
    certificate, key = authority.issue()
    texts = {"tls_cert": certificate, "tls_key": key, "api_key_file": f"# ours\n{KEY} role=admin\n".encode()}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    return {name: str(tmp_path / name) for name in texts}


def _channel(address, authority, key=None, certificate=None):
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority.pem, key, certificate))


async def test_beyond_loopback_with_tls_and_a_key(start, flags, authority):
    async with start(listen="0.0.0.0:0", **flags) as server:
        port = server.address.rpartition(":")[2]
        async with _channel(f"127.0.0.1:{port}", authority) as channel:
            pools = Stubs(channel).pools
            assert (await failure(pools.ListPools(LIST)))[0] is grpc.StatusCode.UNAUTHENTICATED
            reply = await pools.ListPools(LIST, metadata=(("authorization", f"Bearer {KEY}"),))
            assert not reply.pools


async def _unavailable(channel):
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Stubs(channel).pools.ListPools(LIST, metadata=(("x-api-key", KEY),))
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_neither_plain_text_nor_another_ca_gets_through(start, flags):
    async with start(**flags) as server:
        assert await _unavailable(grpc.aio.insecure_channel(server.address))
        assert await _unavailable(_channel(server.address, Authority()))


async def test_callers_show_a_certificate_where_it_is_asked_for(start, flags, authority, tmp_path):
    (tmp_path / "ca").write_bytes(authority.pem)
    certificate, key = authority.issue()
    async with start(tls_client_ca=str(tmp_path / "ca"), **flags) as server:
        assert await _unavailable(_channel(server.address, authority))
        async with _channel(server.address, authority, key, certificate) as channel:
            await Stubs(channel).pools.ListPools(LIST, metadata=(("x-api-key", KEY),))


async def test_beyond_loopback_without_them_is_refused(start):
    with pytest.raises(ConfigError, match="loopback"):
        async with start(listen="0.0.0.0:0"):
            pass


async def test_a_certificate_that_is_none_is_refused(start, flags, tmp_path):
    (tmp_path / "tls_cert").write_text("nonsense")
    with pytest.raises(ConfigError, match="TLS"):
        async with start(**flags):
            pass
