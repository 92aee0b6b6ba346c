"""Keys: what names one, and the signers that URIs name.

Private keys are named by URI as securesystemslib does. To its schemes (`file2:`, `awskms:`, `hv:` …) this module adds `file:PATH`, a PEM
file that may be encrypted, and `hsm.py` replaces `hsm:`. Passphrases come from securesystemslib's own `secrets_handler`, asked for the
secret "passphrase of PATH". Key types are securesystemslib's.

A fingerprint is the SHA-256 of the public key's DER (SubjectPublicKeyInfo), by which OpenSSL names it, and MCUboot, too, unless it is
RSA; a key id is TUF's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    HSMSigner,
    Key,
    SecretsHandler,
    Signer,
    SSlibKey,
)

from hillhold_signer.errors import KeyRefused, StorageError, ToolError
from hillhold_signer.keyfiles import MAX_KEY_FILE, is_encrypted, load_private
from hillhold_signer.storage import list_folder, read_file, read_optional
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.keytypes import SCHEMES

MAX_KEY_FILES: Final = 1000
"""Files looked at in one folder."""
SCHEME: Final = "file"
OWN_SCHEMES: Final = (SCHEME, HSMSigner.SCHEME)
"""Schemes whose signer finds its public key by itself."""
EXTRAS: Final = {"hsm": "hsm", "awskms": "aws", "gcpkms": "gcp", "azurekms": "azure", "hv": "vault"}
"""By URI scheme, the extra of this distribution that brings its library."""

_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER
_SPKI: Final = serialization.PublicFormat.SubjectPublicKeyInfo


class FileSigner(CryptoSigner):
    """A key in a PEM file that may be encrypted, named `file:PATH`; registered with securesystemslib below."""

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key | None, secrets_handler: SecretsHandler | None = None
    ) -> FileSigner:
        """Open the key; `public_key`, where given, must be its public part.

        Raises:
            KeyRefused: malformed, a wrong passphrase or none, or another key than `public_key`.
            StorageError: the file cannot be read.
        """
        path = uri_path(priv_key_uri)
        private = load_private(path, secrets_handler)
        found = public_of(private, path)
        if public_key is not None and fingerprint(public_key) != fingerprint(found):
            raise KeyRefused(
                f"{path}", expected=f"the private key of {fingerprint(public_key)[:16]}", got="another key"
            )
        # The key as the repository states it, so that its key id is the one that metadata name.
        return cls(private, public_key if isinstance(public_key, SSlibKey) else found)


SIGNER_FOR_URI_SCHEME[SCHEME] = FileSigner


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What `key show` says of a file.

    Attributes:
        private: "encrypted", "unencrypted", or None for a public key.
        public_from: where the public part was read, if not in the file itself.
    """

    path: Path
    key: SSlibKey
    private: str | None
    public_from: Path | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key's DER, in hexadecimal."""
        return fingerprint(self.key)


def uri_path(uri: str) -> Path:
    """Return the path of a `file:` URI, in which `file:///x`, `file:/x` and `file:x` are all accepted.

    Raises:
        KeyRefused: another scheme, or no path.
    """
    scheme, _, rest = uri.partition(":")
    if scheme != SCHEME or not rest:
        raise KeyRefused("key URI", expected="file:PATH", got=repr(uri)[:80])
    return Path(rest[2:] if rest.startswith("///") else rest)


def fingerprint(key: Key) -> str:
    """Return the SHA-256 of the public key's DER in hexadecimal; raises `KeyRefused` for a malformed key."""
    return hashlib.sha256(public_der(key)).hexdigest()


def default_keyid(key: Key) -> str:
    """Return the TUF key id of a key: SHA-256 of its canonical JSON, as securesystemslib computes it by default."""
    value = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
    return hashlib.sha256(str(encode_canonical(value)).encode()).hexdigest()


def public_der(key: Key) -> bytes:
    """Return the public key as SubjectPublicKeyInfo in DER; raises `KeyRefused` for a malformed key."""
    return _crypto_public(key).public_bytes(_DER, _SPKI)


def public_pem(key: Key) -> bytes:
    """Return the public key in PEM; raises `KeyRefused` for a malformed key."""
    return _crypto_public(key).public_bytes(_PEM, _SPKI)


def load_public(path: Path) -> SSlibKey:
    """Read a public key in PEM.

    Raises:
        KeyRefused: malformed or of an unknown kind; a private key is refused by name.
        StorageError: it cannot be read.
    """
    return parse_public(read_file(path, MAX_KEY_FILE), path)


def parse_public(data: bytes, path: Path) -> SSlibKey:
    """Parse a public key in PEM; `path` names it in errors, and is all that is done with it; raises `KeyRefused`."""
    if b"PRIVATE KEY-----" in data:
        hint = f"name the .pub file beside it; private keys stay with their owners ({path.with_suffix('.pub').name})"
        raise KeyRefused(f"{path}", expected="a public key", got="a private key", hint=hint)
    try:
        public = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyRefused(f"{path}", expected="a public key in PEM", got="something else") from error
    return tuf_key(public, f"{path}")


def public_of(private: PrivateKeyTypes, path: Path) -> SSlibKey:
    """Return the public part as TUF states it; raises as `tuf_key`."""
    return tuf_key(private.public_key(), f"{path}")


def tuf_key(public: PublicKeyTypes, what: str) -> SSlibKey:
    """Return a public key as TUF states it; raises `KeyRefused` for one by which no device could verify."""
    try:
        key = SSlibKey.from_crypto(public)
        SCHEMES[key.scheme].load(key.keyval["public"])
    except (ValueError, KeyError, UnsupportedAlgorithm) as error:
        kinds = "Ed25519, ECDSA P-256 or P-384, RSA of 2048 to 8192 bits, or ML-DSA"
        raise KeyRefused(what, expected=f"a signing key: {kinds}", got=_kind(public)) from error
    return key


def inspect(path: Path) -> KeyInfo:
    """Read what can be known of a key file without a passphrase.

    Raises:
        KeyRefused: not a key, or an encrypted one without its `.pub` beside it.
        StorageError: it cannot be read.
    """
    data = read_file(path, MAX_KEY_FILE)
    if b"PRIVATE KEY-----" not in data:
        return KeyInfo(path, parse_public(data, path), None, None)
    if not is_encrypted(data):
        return KeyInfo(path, public_of(load_private(path, None), path), "unencrypted", None)
    beside = path.with_suffix(".pub")
    public = read_optional(beside, MAX_KEY_FILE)
    if public is None:
        raise KeyRefused(f"{path} is encrypted", expected=f"its public key in {beside.name}", got="no such file")
    return KeyInfo(path, parse_public(public, beside), "encrypted", beside)


def known_public(uri: str) -> SSlibKey | None:
    """Return the public key of a `file:` URI where no passphrase is needed for that; None where it is not known so."""
    try:
        found = inspect(uri_path(uri))
    except (KeyRefused, StorageError):
        return None  # opening it says why
    return found.key if found.private else None


def inspect_folder(folder: Path) -> list[KeyInfo]:
    """Return what `inspect` says of each key file in a folder; other files are passed over; raises `StorageError`."""
    found = []
    for name in list_folder(folder)[:MAX_KEY_FILES]:
        path = folder / name
        if re.fullmatch(r".+\.(pem|pub|key)", name) and path.is_file():
            try:
                found.append(inspect(path))
            except KeyRefused:
                continue
    return found


def load_signer(uri: str, public: Key | None = None, secrets: SecretsHandler | None = None) -> Signer:
    """Open the signer that a URI names, by securesystemslib's dispatch.

    Args:
        public: its public key; without it, `file:`, `file2:` and `hsm:` find it themselves, other schemes refuse.
        secrets: asked for passphrases and PINs.

    Raises:
        KeyRefused: an unknown scheme, or a key that cannot be opened.
        StorageError, ToolError: a file, a token or a key service failed, or its library is missing.
    """
    scheme = uri.partition(":")[0]
    if scheme not in SIGNER_FOR_URI_SCHEME:
        known = ", ".join(f"{name}:" for name in sorted(SIGNER_FOR_URI_SCHEME))
        hint = f"--key {SCHEME}:{uri}" if Path(uri).is_file() else f"for a PEM file: {SCHEME}:PATH"
        raise KeyRefused("key URI", expected=f"one of {known}", got=repr(uri)[:80], hint=hint)
    if public is None and scheme == CryptoSigner.SCHEME:
        public = inspect(Path(uri.partition(":")[2])).key
    if public is None and scheme not in OWN_SCHEMES:
        raise KeyRefused(f"key {uri}", expected="its public key", got="none", hint="name it with --public FILE")
    kind: Any = SIGNER_FOR_URI_SCHEME[scheme]
    return _service(lambda: kind.from_priv_key_uri(uri, public, secrets), uri)


def missing_library(uri: str, error: Exception) -> ToolError:
    """Say that the library of a URI's scheme is not installed, and how to get it."""
    extra = EXTRAS.get(uri.partition(":")[0])
    hint = f"pip install 'hillhold-signer[{extra}]'" if extra else None
    return ToolError(f"key {uri}: a library is missing: {error}", hint=hint)


def _service(call: Callable[[], Signer], uri: str) -> Signer:
    """Run a scheme's factory: securesystemslib documents that it may raise anything."""
    try:
        return call()
    except HillholdError:
        raise
    except UnsupportedLibraryError as error:
        raise missing_library(uri, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise KeyRefused(f"key {uri}: {error}") from error
    except Exception as error:
        raise ToolError(f"key {uri}: {error}") from error


def _kind(public: PublicKeyTypes) -> str:
    size = getattr(public, "key_size", None)
    return type(public).__name__ + (f" of {size} bits" if size else "")


def _crypto_public(key: Key) -> PublicKeyTypes:
    public = str(key.keyval.get("public", ""))
    try:
        if key.keytype == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        return serialization.load_pem_public_key(public.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyRefused(f"public key {key.keyid[:16]}", expected="a well-formed one", got=key.keytype) from error
