"""The certificates of the Cloud SQL stand-in: its authority, the door's certificate, ephemeral ones for clients."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.durable import locked, replace

EPHEMERAL = timedelta(hours=1)
YEARS = timedelta(days=3650)
BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True)
class Authority:
    """The instance's own certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, folder: Path) -> "Authority":
        """Read it from `ca.pem` (key and certificate in one file), or make it at the first call."""
        path = folder / "ca.pem"
        with locked(folder / "lock"):
            if not path.exists():
                replace(path, _new_authority())
        data = path.read_bytes()
        key = serialization.load_pem_private_key(data, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path.name} holds another kind of key")
        return cls(x509.load_pem_x509_certificate(data), key)

    def server(self, instance: str, address: str) -> bytes:
        """Key and certificate of the door, PEM. `instance` is project:region:name."""
        key = ec.generate_private_key(ec.SECP256R1())
        project, _, name = instance.split(":")
        names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName(f"{name}.{project}.sql.local")]
        builder = _builder(f"{project}:{name}", key.public_key(), YEARS).issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _pem_key(key) + self._signed(builder, ExtendedKeyUsageOID.SERVER_AUTH)

    def ephemeral(self, public_key: bytes, email: str | None) -> bytes:
        """A client certificate of one hour, PEM; with IAM log-in it names the account. Raises ValueError."""
        key = serialization.load_pem_public_key(public_key)
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise ValueError("The public key must be RSA or EC.")
        builder = _builder("ephemeral", key, EPHEMERAL).issuer_name(self.certificate.subject)
        if email:
            names = x509.SubjectAlternativeName([x509.RFC822Name(email)])
            builder = builder.add_extension(names, critical=False)
        return self._signed(builder, ExtendedKeyUsageOID.CLIENT_AUTH)

    def pem(self) -> bytes:
        """The certificate that clients trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def _signed(self, builder: x509.CertificateBuilder, usage: x509.ObjectIdentifier) -> bytes:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(identifier, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _new_authority() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Cloud SQL Server CA (local)", key.public_key(), YEARS)
    builder = builder.issuer_name(_name("Cloud SQL Server CA (local)"))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pem_key(key) + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    common_name: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
