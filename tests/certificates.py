"""Certificates for tests, made when they are needed: no key is ever stored."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, as PEM files: apart, and both in one."""

    key: Path
    certificate: Path
    both: Path


class Authority:
    """A CA of its own, whose certificate is in `folder`/ca.pem."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("Test CA")
        builder = _certificate(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = folder / "ca.pem"
        self.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(self, name: str) -> Pair:
        """A certificate for 127.0.0.1 and localhost, good for servers and clients: NAME.pem has its key too."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _certificate(_named(name), self._name, key.public_key())
        hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        certificate = _pem(builder.sign(self._key, hashes.SHA256()))
        plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
        private = key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
        pair = Pair(*(self._folder / f"{name}{end}.pem" for end in ("-key", "-cert", "")))
        for path, content in ((pair.key, private), (pair.certificate, certificate), (pair.both, private + certificate)):
            path.write_bytes(content)
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
