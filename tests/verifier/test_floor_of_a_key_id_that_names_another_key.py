"""Floors follow keys, not key ids: metadata may give a new key the id of the old one, and one key two ids (DESIGN §4)."""

from forge import MAX_VERSION, Repo, key
from hillhold_verifier.trust import current
from holder import NOW, holding, take


def test_a_floor_falls_with_the_key_even_if_the_next_has_its_name() -> None:
    repo = Repo()
    repo.keys["timestamp"] = [key("timestamp-1").named("online")]
    repo.keys["snapshot"] = [key("snapshot-1").named("online-s")]
    repo.publish()
    trust = take(holding(repo), {"timestamp": repo.timestamp(version=MAX_VERSION)}, "timestamp")
    repo.keys["timestamp"] = [key("timestamp-2").named("online")]
    repo.keys["snapshot"] = [key("snapshot-2").named("online-s")]
    repo.publish("root", "snapshot", "timestamp")
    trust = take(take(trust, repo.files, "root"), repo.files, "timestamp", "snapshot", "targets", "line")
    current(trust, "pump", NOW)


def test_a_floor_counts_keys_not_ids() -> None:
    """Quorum 2 of {a, a again under another id, b, c}. a and b stolen; b replaced: what stays of the thieves is one key, no quorum."""
    repo = Repo()
    a, b, c, d = (key(f"line-{x}") for x in "abcd")
    repo.keys["line"] = [a, b, c, a.named("twin")]
    repo.publish()
    evil = repo.line(version=MAX_VERSION, signers=[a, a.named("twin"), b])
    snapshot = repo.snapshot(line=evil)
    files = {**repo.files, "line": evil, "snapshot": snapshot, "timestamp": repo.timestamp(snapshot=snapshot)}
    repo.versions["snapshot"] = repo.versions["timestamp"] = 2
    trust = take(holding(repo), files, "timestamp", "snapshot", "line")
    repo.keys["line"] = [c, d, a, a.named("twin")]
    repo.rotate("timestamp", "snapshot")
    current(take(take(trust, repo.files, "root"), repo.files), "pump", NOW)
