"""The certificates of the gRPC stand-ins: a CA that only this stack trusts, and one server certificate."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.durable import locked, replace

DAYS = 365
RENEW_DAYS = 30
FILES = ("ca.pem", "server.key", "server.pem")


def ensure(root: str | Path) -> None:
    """Make `<root>/tls/{ca.pem,server.pem,server.key}` unless they are there and valid for a month yet."""
    folder = Path(root, "tls")
    with locked(folder / "lock"):
        if not _good(folder):
            _make(folder)


def _good(folder: Path) -> bool:
    if not all((folder / name).exists() for name in FILES):
        return False
    certificate = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    rest = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return rest > datetime.timedelta(days=RENEW_DAYS)


def _make(folder: Path) -> None:
    """The CA's private key is never written: nothing else can be signed with it later."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    name = _name("context local CA")
    authority = _builder(name, name, authority_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = (
        _builder(_name("localhost"), name, server_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    )
    private = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    encoding = serialization.Encoding.PEM
    replace(folder / "server.key", private)
    replace(folder / "ca.pem", authority.sign(authority_key, SHA256()).public_bytes(encoding))
    replace(folder / "server.pem", server.sign(authority_key, SHA256()).public_bytes(encoding))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )
