"""The keys of a line's bootloaders, and that an image is signed by one of them.

They lie in the work area (`image-keys/PRODUCT/FINGERPRINT.pub`), not in the metadata: no device reads them. A bootloader has its own
keys, and what it would refuse at the first boot of a trial is refused here, before anyone signs.

An image names its key by a hash, which MCUboot takes over the public key as it is compiled into the bootloader: for Ed25519 and ECDSA
P-256, SubjectPublicKeyInfo in DER, so the hash is the key's fingerprint; for RSA, the form of PKCS#1, so it is not. Files, commands and
people name keys by fingerprint.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from securesystemslib.signer import Key

from hillhold_signer.errors import KeyRefused, PublicKeyMaterialRefused, ReleaseRefused, RepositoryRefused
from hillhold_signer.examples import name_of_hash, refuse_public
from hillhold_signer.keys import public_pem
from hillhold_signer.layout import Layout
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import revoked_image_keys
from hillhold_signer.storage import list_folder, read_optional, remove_file, write_file
from hillhold_verifier.errors import ImageError, ImageSignatureError
from hillhold_verifier.mcuboot import TLV_KEYHASH, ImageKey, check_hash, parse_image, verify_image
from hillhold_verifier.mcuboot_keys import SIGNATURES

MAX_KEYS: Final = 16
"""Bootloader keys of one line."""
MAX_FILE: Final = 4096
"""Bytes of a public key in PEM."""


def add_image_keys(repository: Repository, product: str, keys: Sequence[Key], now: int) -> tuple[str, ...]:
    """Note the keys of a line's bootloaders; returns the fingerprints of all that are noted now.

    Raises:
        ProductRefused: no such line.
        KeyRefused: a kind of key that no Hillhold device reads, one that is revoked, or too many.
        PublicKeyMaterialRefused: a key whose private part everybody has, outside a demo.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        edit.state.line(product)
        known = {key.der for key in image_keys(edit.layout, product)}
        gone = revoked_image_keys(edit.layout, edit.state)
        new = {}
        for key in keys:
            refuse_public(key, demo=edit.config.demo)
            found = _image_key(public_pem(key), "image key")
            if found.key_hash.hex() in gone:
                raise KeyRefused("image key", expected="one that is not revoked", got=found.key_hash.hex()[:16])
            new[found.fingerprint.hex()] = public_pem(key)
            known.add(found.der)
        if len(known) > MAX_KEYS:
            raise KeyRefused(f"image keys of {product}", expected=f"at most {MAX_KEYS}", got=len(known))
        for fingerprint, pem in new.items():
            write_file(edit.layout.image_keys(product) / f"{fingerprint}.pub", pem)
    return tuple(sorted(ImageKey(der).fingerprint.hex() for der in known))


def remove_image_key(repository: Repository, product: str, fingerprint: str, now: int) -> tuple[str, ...]:
    """Forget a key of a line's bootloaders; returns the fingerprints that are left.

    Args:
        fingerprint: its first digits, as far as they tell it from others.

    Raises:
        ProductRefused: no such line.
        KeyRefused: no such key, or more than one.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        edit.state.line(product)
        known = sorted(key.fingerprint.hex() for key in image_keys(edit.layout, product))
        found = [name for name in known if fingerprint and name.startswith(fingerprint)]
        if len(found) != 1:
            listed = ", ".join(name[:16] for name in known) or "none yet"
            raise KeyRefused(
                f"image key of {product}", expected=f"a fingerprint, one of: {listed}", got=repr(fingerprint)[:80]
            )
        remove_file(edit.layout.image_keys(product) / f"{found[0]}.pub")
    return tuple(name for name in known if name != found[0])


def image_keys(layout: Layout, product: str) -> tuple[ImageKey, ...]:
    """Return the keys of a line's bootloaders, by fingerprint.

    Raises:
        RepositoryRefused: a file that does not hold the key of its name.
        StorageError: one cannot be read.
    """
    found = []
    for name in list_folder(layout.image_keys(product)):
        path = layout.image_keys(product) / name
        try:
            key = _image_key(read_optional(path, MAX_FILE) or b"", str(path))
        except KeyRefused as error:
            raise RepositoryRefused(str(error)) from error
        if name != f"{key.fingerprint.hex()}.pub":
            raise RepositoryRefused(f"{path}", expected="the key of that fingerprint", got=key.fingerprint.hex()[:16])
        found.append(key)
    return tuple(found)


def image_fingerprint(key: Key) -> str:
    """Return the hash by which bootloaders and images name a key, in hexadecimal; raises `KeyRefused` for one that none reads."""
    return _image_key(public_pem(key), "image key").key_hash.hex()


def check_signed(
    data: bytes, keys: Sequence[ImageKey], *, demo: bool, revoked: Collection[str] = frozenset()
) -> str | None:
    """Refuse an image that the line's bootloaders would refuse.

    Args:
        keys: those of the bootloaders. Where there are none, a signature has to be there, and that is all that can be said.
        demo: allow example keys and MCUboot's published samples.
        revoked: fingerprints of image keys that bootloaders drop, or have dropped.

    Returns:
        The fingerprint of the key whose signature verified; None without `keys`.

    Raises:
        ReleaseRefused: not signed, damaged since, or signed by another key or a revoked one.
        PublicKeyMaterialRefused: it names a key whose private part everybody has.
    """
    hint = "sign it with the bootloader's key: `hillhold image sign`, or CONFIG_MCUBOOT_SIGNATURE_KEY_FILE in Zephyr"

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    try:
        image = parse_image(data)
        check_hash(image, read)
        found = {tlv.type: tlv.value for tlv in image.tlvs}
        if TLV_KEYHASH not in found or not found.keys() & SIGNATURES.keys():
            raise ReleaseRefused("image signature", expected="one", got="none", hint=hint)
        named = found[TLV_KEYHASH].hex()
        if named in revoked:
            got = f"{named[:16]}, which was revoked"
            raise ReleaseRefused("image key", expected="one that bootloaders go on accepting", got=got, hint=hint)
        if not demo and (name := name_of_hash(named)):
            raise PublicKeyMaterialRefused(
                f"the image is signed with {name}: its private part is public",
                expected="a key of your own",
                got=named[:16],
                hint=hint,
            )
        return verify_image(image, read, keys).fingerprint.hex() if keys else None
    except ImageSignatureError as error:
        hint = "a line's bootloader keys are those of `hillhold product image-key`"
        raise ReleaseRefused(f"the bootloader would refuse this: {error}", hint=hint) from error
    except ImageError as error:
        raise ReleaseRefused(f"image: {error}", hint=hint) from error


def image_key_hash(key: Key) -> str | None:
    """Return the hash by which an MCUboot image names a key; None for a kind that signs no image that is read here."""
    try:
        return ImageKey.from_pem(public_pem(key)).key_hash.hex()
    except ImageSignatureError:
        return None


def _image_key(pem: bytes, what: str) -> ImageKey:
    try:
        return ImageKey.from_pem(pem)
    except ImageSignatureError as error:
        raise KeyRefused(f"{what}: {error}") from error
