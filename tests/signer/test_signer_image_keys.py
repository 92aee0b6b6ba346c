"""Bootloader keys of a line: an image that none of them signed is refused before anyone signs its release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.signer import CryptoSigner

from hillhold_signer import (
    Caps,
    Ceremony,
    ImagePlan,
    NamedKey,
    OnlineKey,
    Product,
    Repository,
    Team,
    Wish,
    add_product,
    add_release,
    example_signer,
    sign_image,
)
from hillhold_signer.errors import (
    KeyRefused,
    ProductRefused,
    PublicKeyMaterialRefused,
    ReleaseRefused,
    RepositoryRefused,
)
from hillhold_signer.examples import MCUBOOT_SAMPLES
from hillhold_signer.image_keys import MAX_KEYS, add_image_keys, image_key_hash, image_keys, remove_image_key
from hillhold_signer.keys import fingerprint
from hillhold_verifier.mcuboot import TLV_ECDSA, TLV_ED25519, TLV_KEYHASH, TLV_SHA256, parse_image
from hillhold_verifier.mcuboot_keys import KINDS, TLV_RSA3072
from workshop import NOW, firmware, image, pump, started, tree

WISH = Wish("app.bin", hardware=("nrf51-a",))
ED25519 = CryptoSigner(ed25519.Ed25519PrivateKey.generate())
P256 = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
RSA2048, RSA3072 = (CryptoSigner(rsa.generate_private_key(65537, bits)) for bits in (2048, 3072))
ALL = (ED25519, P256, RSA2048, RSA3072)


def signed(signer: CryptoSigner, version: str = "1.0.0", seed: int = 1) -> bytes:
    return sign_image(firmware(seed), ImagePlan(version, 1, 512, 0x20000, True), signer, demo=True)


def without(data: bytes, *kinds: int) -> bytes:
    """The image without some entries of its unsigned area."""
    found = parse_image(data)
    entries = [tlv for tlv in found.tlvs if not tlv.protected and tlv.type not in kinds]
    return tlvs(data, [(tlv.type, tlv.value) for tlv in entries])


def naming(data: bytes, digest: str) -> bytes:
    """The image with another key hash."""
    entries = [tlv for tlv in parse_image(data).tlvs if not tlv.protected]
    return tlvs(data, [(tlv.type, bytes.fromhex(digest) if tlv.type == TLV_KEYHASH else tlv.value) for tlv in entries])


def tlvs(data: bytes, entries: list[tuple[int, bytes]]) -> bytes:
    area = b"".join(kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for kind, value in entries)
    head = (0x6907).to_bytes(2, "little") + (len(area) + 4).to_bytes(2, "little")
    return data[: parse_image(data).signed_length] + head + area


def own(path: Path) -> Repository:
    """A repository with keys of its own, not a demo; the line is drafted."""

    def holder(name: str) -> NamedKey:
        return NamedKey(name, CryptoSigner(ed25519.Ed25519PrivateKey.generate()).public_key)

    team = Team((holder("Ada"),), 1)
    first, second = (OnlineKey(holder("online").key, "file:online.pem") for _ in range(2))
    repository = Repository.create(path, Ceremony(team, Team((holder("Grace"),), 1), first, second), NOW)
    add_product(repository, Product("pump", Team((holder("Alan"),), 1), Caps(("nrf51-a",))), NOW)
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = own(tmp_path / "repo")
    add_image_keys(found, "pump", [signer.public_key for signer in ALL], NOW)
    return found


def named(signer: CryptoSigner) -> str:
    """The hash by which an image names the key."""
    return image_key_hash(signer.public_key) or ""


@pytest.mark.slow
def test_an_image_names_its_key_by_the_fingerprint_that_people_compare_unless_it_is_rsa() -> None:
    for signer in ALL:
        found = {tlv.type: tlv.value for tlv in parse_image(signed(signer)).tlvs}
        assert found[TLV_KEYHASH].hex() == named(signer)
        assert (named(signer) == fingerprint(signer.public_key)) == (signer in (ED25519, P256))
    assert image_key_hash(CryptoSigner.generate_ecdsa(scheme="ecdsa-sha2-nistp384").public_key) is None


@pytest.mark.slow
def test_an_image_of_one_of_the_keys_is_added(repository: Repository) -> None:
    for number, signer in enumerate(ALL):
        added = add_release(repository, "pump", signed(signer, f"1.{number}.0"), WISH, NOW)
        assert added.image_key == fingerprint(signer.public_key)


def forged(data: bytes) -> bytes:
    """It names a known key, and is signed by another."""
    return naming(data, fingerprint(ED25519.public_key))


STRANGER = CryptoSigner(ed25519.Ed25519PrivateKey.generate())
ONE_OF = "would refuse this: image key: expected a key hash, one of: "
KNOWN = ", ".join(named(signer)[:16] for signer in sorted(ALL, key=lambda signer: fingerprint(signer.public_key)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: signed(STRANGER), f"{ONE_OF}{KNOWN}, got "),
        (lambda: forged(signed(STRANGER)), "a valid one, got one that does not verify"),
        (lambda: forged(signed(P256)), "TLV 0x24, as its key, got none of that kind"),
        (lambda: forged(signed(RSA2048)), "TLV 0x24, as its key, got none of that kind"),
        (lambda: naming(signed(RSA2048), fingerprint(RSA2048.public_key)), ONE_OF),
        (lambda: naming(signed(RSA2048), named(RSA3072)), "TLV 0x23, as its key, got none of that kind"),
        (lambda: without(signed(RSA3072), TLV_RSA3072), "image signature: expected one, got none"),
        (lambda: without(signed(ED25519), TLV_ED25519, TLV_KEYHASH), "image signature: expected one, got none"),
        (lambda: without(signed(ED25519), TLV_ED25519), "image signature: expected one, got none"),
        (lambda: without(signed(P256), TLV_KEYHASH, TLV_ECDSA), "image signature: expected one, got none"),
        (lambda: without(signed(ED25519), TLV_KEYHASH), "image signature: expected one, got none"),
        (lambda: without(signed(ED25519), TLV_SHA256), "image hash"),
        (lambda: signed(ED25519)[:600] + b"\0" + signed(ED25519)[601:], "image hash: expected"),
    ],
)
def test_any_other_image_is_refused_and_nothing_changes(
    repository: Repository, make: Callable[[], bytes], says: str
) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused) as refused:
        add_release(repository, "pump", make(), WISH, NOW)
    assert says in str(refused.value)
    assert refused.value.hint
    assert tree(repository.folder.path) == before


def test_without_keys_a_signature_must_be_there_and_nobody_says_whose(tmp_path: Path) -> None:
    repository = own(tmp_path / "repo")
    unsigned = without(signed(ED25519), TLV_ED25519, TLV_KEYHASH)
    damaged = signed(ED25519)[:600] + b"\0" + signed(ED25519)[601:]
    for data in (unsigned, damaged):
        with pytest.raises(ReleaseRefused):
            add_release(repository, "pump", data, WISH, NOW)
    assert add_release(repository, "pump", signed(ED25519), WISH, NOW).image_key is None


@pytest.mark.slow
def test_a_published_sample_key_is_refused_outside_a_demo_whether_or_not_keys_are_named(
    tmp_path: Path, repository: Repository
) -> None:
    samples = [naming(signed(ED25519), digest) for digest in MCUBOOT_SAMPLES]
    for each in (repository, own(tmp_path / "other")):
        before = tree(each.folder.path)
        for data in (*samples, image("1.0.0")):
            with pytest.raises(PublicKeyMaterialRefused, match="its private part is public"):
                add_release(each, "pump", data, WISH, NOW)
        with pytest.raises(PublicKeyMaterialRefused):
            add_image_keys(each, "pump", [example_signer("image").public_key], NOW)
        assert tree(each.folder.path) == before
    demo = started(tmp_path / "demo")
    add_image_keys(demo, "pump", [example_signer("image").public_key], NOW)
    assert add_release(demo, "pump", image("1.0.0"), WISH, NOW).image_key


def test_keys_are_noted_shown_and_removed(repository: Repository) -> None:
    known = sorted(fingerprint(signer.public_key) for signer in ALL)
    assert [key.fingerprint.hex() for key in image_keys(repository.layout, "pump")] == known
    assert list(add_image_keys(repository, "pump", [P256.public_key, RSA2048.public_key], NOW)) == known
    before = tree(repository.folder.path)
    for wrong in ("", "zz", known[0][:0], "../" + known[0], named(RSA2048)):
        with pytest.raises(KeyRefused, match="one of: "):
            remove_image_key(repository, "pump", wrong, NOW)
    assert tree(repository.folder.path) == before
    for signer in ALL:
        name = fingerprint(signer.public_key)
        known.remove(name)
        assert list(remove_image_key(repository, "pump", name[:16], NOW)) == known
        assert [key.fingerprint.hex() for key in image_keys(repository.layout, "pump")] == known


def test_keys_that_no_device_reads_and_too_many_are_refused(repository: Repository) -> None:
    before = tree(repository.folder.path)
    for private, name in (
        (rsa.generate_private_key(65537, 4096), "RSA-4096"),
        (rsa.generate_private_key(3, 3072), "RSA-3072 with the exponent 0x3"),
        (ec.generate_private_key(ec.SECP384R1()), "ECDSA P-384"),
    ):
        with pytest.raises(KeyRefused, match=f"image key: expected {KINDS}, got {name}"):
            add_image_keys(repository, "pump", [ED25519.public_key, CryptoSigner(private).public_key], NOW)
    many = [CryptoSigner(ed25519.Ed25519PrivateKey.generate()).public_key for _ in range(MAX_KEYS - len(ALL) + 1)]
    with pytest.raises(KeyRefused, match=f"at most {MAX_KEYS}, got {MAX_KEYS + 1}"):
        add_image_keys(repository, "pump", many, NOW)
    with pytest.raises(ProductRefused):
        add_image_keys(repository, "../pump", [ED25519.public_key], NOW)
    assert tree(repository.folder.path) == before


def test_a_file_that_holds_another_key_than_its_name_says_stops_everything(repository: Repository) -> None:
    folder = repository.folder.image_keys("pump")
    one, other, *_ = sorted(folder.iterdir())
    good = one.read_bytes()
    for bad in (other.read_bytes(), b"", b"-----BEGIN PUBLIC KEY-----\n"):
        one.write_bytes(bad)
        with pytest.raises(RepositoryRefused):
            add_release(repository, "pump", signed(ED25519), WISH, NOW)
    one.write_bytes(good)
    add_release(repository, "pump", signed(ED25519), WISH, NOW)


def test_the_keys_of_one_line_are_not_those_of_another(repository: Repository) -> None:
    team = pump().team
    demo = started(repository.folder.path.parent / "demo")
    add_product(demo, Product("valve", team, Caps(("nrf51-a",))), NOW)
    add_image_keys(demo, "valve", [P256.public_key], NOW)
    assert add_release(demo, "pump", signed(ED25519), WISH, NOW).image_key is None
    with pytest.raises(ReleaseRefused, match="expected a key hash, one of: "):
        add_release(demo, "valve", signed(ED25519), WISH, NOW)
