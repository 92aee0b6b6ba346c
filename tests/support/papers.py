"""Certificates: a CA, and what it signs, made for one test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Ca:
    """A certificate authority. Certificates are valid for a day around `now`, Unix seconds."""

    def __init__(self, folder: Path, name: str, now: int) -> None:
        self._folder, self._name, self._now = folder, name, now
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        made = self._builder(subject, subject, self._key.public_key(), now)
        basic = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = basic.add_extension(usage, critical=True).sign(self._key, SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        *names: x509.GeneralName,
        server: bool = False,
        now: int | None = None,
        pads: int = 0,
    ) -> Paper:
        """A certificate with these alternative names, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(_name(name), self._certificate.subject, key.public_key(), now or self._now)
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if pads:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x04\x00" * pads)
            made = made.add_extension(unknown, critical=False)
        certificate = made.sign(self._key, SHA256())
        found = Paper(self._folder / f"{name}.pem", self._folder / f"{name}.key", certificate)
        found.file.write_bytes(certificate.public_bytes(Encoding.PEM))
        found.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return found

    def issue_server(self) -> Paper:
        return self.issue("server", x509.IPAddress(ip_address("127.0.0.1")), server=True)

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: int
    ) -> x509.CertificateBuilder:
        middle = datetime.fromtimestamp(now, UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(middle - timedelta(hours=12))
            .not_valid_after(middle + timedelta(hours=12))
        )


class Paper:
    """A certificate: its files, and DER."""

    def __init__(self, file: Path, key: Path, certificate: x509.Certificate) -> None:
        self.file, self.key = file, key
        self.der = certificate.public_bytes(Encoding.DER)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
