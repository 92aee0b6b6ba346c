"""A held file counts only while its lister names just that file: by version, and by every hash (DESIGN §4, "Current")."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256, sha512

import pytest

from forge import Object, Repo
from hillhold_verifier.checks import check_content, check_version, is_listed
from hillhold_verifier.errors import MismatchError, MissingError
from hillhold_verifier.metadata import Envelope, parse_snapshot
from hillhold_verifier.roles import MetaFile, Snapshot
from hillhold_verifier.trust import current, missing
from holder import NOW, holding, listed, make, take


@pytest.fixture
def repo() -> Repo:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


def check_listed(held: Envelope[Snapshot], listing: MetaFile, *, hashed: bool) -> None:
    """What a file that comes has to pass, before and after it is parsed."""
    check_content(held.raw, "snapshot", listing, hashed=hashed)
    check_version(held, "snapshot", listing)


def snapshot_of(repo: Repo) -> Envelope[Snapshot]:
    return parse_snapshot(repo.files["snapshot"])


def test_every_hash_and_the_version_have_to_be_the_files(repo: Repo) -> None:
    held = snapshot_of(repo)
    right = {"sha256": sha256(held.raw).digest(), "sha512": sha512(held.raw).digest()}
    assert is_listed(held, MetaFile(1, None, right), hashed=True)
    check_listed(held, MetaFile(1, None, right), hashed=True)
    wrong = [
        MetaFile(2, None, right),
        MetaFile(1, len(held.raw) - 1, right),
        *(MetaFile(1, None, right | {name: bytes(len(digest))}) for name, digest in right.items()),
        *(MetaFile(1, None, {name: bytes(len(digest))}) for name, digest in right.items()),
    ]
    for listing in wrong:
        assert not is_listed(held, listing, hashed="sha256" in listing.hashes)
        with pytest.raises(MismatchError):
            check_listed(held, listing, hashed="sha256" in listing.hashes)


def test_where_tuf_leaves_hashes_to_the_lister_the_version_decides(repo: Repo) -> None:
    held = snapshot_of(repo)
    bare = MetaFile(1, None, {})
    assert is_listed(held, bare, hashed=False)
    assert not is_listed(held, bare, hashed=True)
    check_listed(held, bare, hashed=False)
    with pytest.raises(MismatchError, match="SHA-256"):
        check_listed(held, bare, hashed=True)
    with pytest.raises(MismatchError, match="version"):
        check_listed(held, replace(bare, version=2), hashed=False)


def test_a_wrong_length_is_told_with_both(repo: Repo) -> None:
    held = snapshot_of(repo)
    with pytest.raises(MismatchError, match=rf"^snapshot length: expected 600, got {len(held.raw)}$"):
        check_content(held.raw, "snapshot", MetaFile(1, 600, {}), hashed=False)


@pytest.mark.parametrize("role", ["snapshot", "targets", "line"])
def test_a_held_file_is_not_the_listed_one_of_the_same_version(repo: Repo, role: str) -> None:
    """Its lister names the version that is held, and another content: what is held is no longer current."""
    trust = holding(repo)
    another = make(repo, role, version=1, edit=lambda signed: signed.update({"x-note": "another"}))
    files = listed(repo, role, another)
    above = ("timestamp",) if role == "snapshot" else ("timestamp", "snapshot")
    moved = take(trust, files, *above)
    assert (gap := missing(moved, "pump"))
    assert gap[0] == ("pump" if role == "line" else role)
    with pytest.raises(MissingError):
        current(moved, "pump", NOW)
    current(take(moved, files, *(("snapshot", "targets", "line") if role == "snapshot" else (role,))), "pump", NOW)


@pytest.mark.parametrize("role", ["targets", "line"])
def test_a_held_file_is_not_the_listed_one_of_another_version(repo: Repo, role: str) -> None:
    """Its lister names the very bytes that are held, under a version that they do not state."""

    def raised(signed: Object) -> None:
        signed["meta"]["pump.json" if role == "line" else "targets.json"]["version"] = 2

    files = dict(repo.files)
    files["snapshot"] = repo.snapshot(edit=raised)
    files["timestamp"] = repo.timestamp(snapshot=files["snapshot"])
    moved = take(holding(repo), files, "timestamp", "snapshot")
    with pytest.raises(MissingError):
        current(moved, "pump", NOW)
    with pytest.raises(MismatchError, match="version"):
        take(moved, files, role)
