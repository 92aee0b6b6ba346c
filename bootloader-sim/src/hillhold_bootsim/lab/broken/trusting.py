"""Faults in the rules of trust: expiry, signatures, roots, floors, and what lists what."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from hillhold_bootsim.lab.broken.plant import Plant, Shelf, always
from hillhold_verifier import installer, metadata, session, trust
from hillhold_verifier.errors import MetadataError, SignatureError
from hillhold_verifier.keys import SCHEMES, Key
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Envelope, parse_root
from hillhold_verifier.roles import MetaFile, Role, Signature, Targets
from hillhold_verifier.trust import Floor, Trust

TRUSTING: Final = Shelf()
_add = TRUSTING.add
_TOP: Final = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)


# --- expiry and time --------------------------------------------------------------------------------------------------


def _never_expires(name: str, is_it: Callable[[str], bool]) -> None:
    @_add(f"ignores-expiry-{name}", f"It ignores the expiry of {name}.", f"expired-{name}")
    def plant(plant: Plant) -> None:
        def make(right: Any) -> Any:
            return lambda role, expires, now: None if is_it(role) else right(role, expires, now)

        plant.replace(trust, "check_expiry", make)


for _role in _TOP:
    _never_expires(_role, _role.__eq__)
_never_expires("line", lambda role: role not in _TOP)


@_add("trusts-line-for-grace", "It grants the offline grace that the line claims, whatever its delegation allows.",
      "grace-beyond-cap")  # fmt: skip
def trusts_line_for_grace(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def terms(held: Trust, product: str) -> Any:
            listing, delegation, keys = right(held, product)
            return listing, replace(delegation, max_offline_grace=2**40), keys

        return terms

    plant.replace(trust, "_line_terms", make)


@_add("believes-a-clock-set-back", "It goes by its clock alone, even where that is set back.", "clock-set-back")
def believes_a_clock_set_back(plant: Plant) -> None:
    plant.replace(Trust, "now", lambda _right: lambda _held, clock: clock or 0)


@_add("remembers-the-latest-clock", "It takes the latest time that its clock ever showed for a floor, so that a wrong clock spoils it for good.",
      "clock-far-ahead")  # fmt: skip
def remembers_the_latest_clock(plant: Plant) -> None:
    latest = [0]

    def make(right: Any) -> Any:
        def now(held: Trust, clock: int | None) -> int:
            latest[0] = max(latest[0], clock or 0)
            return max(latest[0], right(held, clock))

        return now

    plant.replace(Trust, "now", make)


# --- signatures -------------------------------------------------------------------------------------------------------


def _counting(
    counts: Callable[[Envelope[Any], Signature, Role, Mapping[str, Key]], object], enough: Callable[[Role], int]
) -> Callable[[Any], Any]:
    """A `verify` that counts other things, or fewer."""

    def verify(
        envelope: Envelope[Any], name: str, role: Role, keys: Mapping[str, Key], schemes: frozenset[str] = SCHEMES
    ) -> frozenset[bytes]:
        counted, signers = list[object](), set[bytes]()
        for signature in envelope.signatures:
            thing = counts(envelope, signature, role, keys)
            key = keys.get(signature.keyid)
            if thing is not None and thing not in counted:
                counted.append(thing)
                signers.add((key.fingerprint(schemes) if key else None) or b"")
        if len(counted) < enough(role):
            raise SignatureError(f"{name} signatures", expected=f"{enough(role)} valid", got=len(counted))
        return frozenset(signers)

    return lambda _right: verify


def _signer(envelope: Envelope[Any], signature: Signature, keys: Mapping[str, Key]) -> bytes | None:
    key = keys.get(signature.keyid)
    return envelope.signer(signature, key, SCHEMES) if key else None


@_add("counts-any-key", "It counts a valid signature by any key that the file names, for whatever role.",
      "other-role-targets", "other-line-signs")  # fmt: skip
def counts_any_key(plant: Plant) -> None:
    makes = _counting(lambda file, one, _role, keys: _signer(file, one, keys), lambda role: role.threshold)
    plant.replace(trust, "verify", makes)


@_add("counts-key-ids", "It counts ids of keys, so that one key under two ids is a quorum.", "delegated-two-ids")
def counts_key_ids(plant: Plant) -> None:
    def counts(file: Envelope[Any], one: Signature, role: Role, keys: Mapping[str, Key]) -> object:
        return one.keyid if one.keyid in role.keyids and _signer(file, one, keys) else None

    plant.replace(trust, "verify", _counting(counts, lambda role: role.threshold))


@_add("counts-signatures", "It counts signatures, so that one key that signs twice is a quorum.",
      "one-key-twice-line", "one-key-twice-targets", "root-one-key-twice")  # fmt: skip
def counts_signatures(plant: Plant) -> None:
    def counts(file: Envelope[Any], one: Signature, role: Role, keys: Mapping[str, Key]) -> object:
        return object() if one.keyid in role.keyids and _signer(file, one, keys) else None

    plant.replace(trust, "verify", _counting(counts, lambda role: role.threshold))
    plant.replace(metadata, "_parse", _with_repeats)


def _with_repeats(right: Any) -> Any:
    """A parser that lets a key id come twice."""

    def parse(data: bytes, *kind: Any) -> Envelope[Any]:
        try:
            found: Envelope[Any] = right(data, *kind)
        except MetadataError:
            whole = json.loads(data)
            entries = whole["signatures"]
            whole["signatures"] = list({entry["keyid"]: entry for entry in entries}.values())
            found = right(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode(), *kind)
            all_of_them = tuple(Signature(entry["keyid"], bytes.fromhex(entry["sig"])) for entry in entries)
            found = replace(found, raw=data, signatures=all_of_them)
        return found

    return parse


@_add("one-signature-is-enough", "It ignores thresholds: one valid signature is enough.",
      "one-of-two-line", "one-of-two-targets", "root-one-of-two")  # fmt: skip
def one_signature_is_enough(plant: Plant) -> None:
    def counts(file: Envelope[Any], one: Signature, role: Role, keys: Mapping[str, Key]) -> object:
        return _signer(file, one, keys) if one.keyid in role.keyids else None

    plant.replace(trust, "verify", _counting(counts, lambda _role: 1))


@_add("believes-key-ids", "It looks for the ids of a quorum, and verifies no signature.",
      "honest-id-line", "honest-id-targets", "changed-after-signing")  # fmt: skip
def believes_key_ids(plant: Plant) -> None:
    def counts(_file: Envelope[Any], one: Signature, role: Role, _keys: Mapping[str, Key]) -> object:
        return one.keyid if one.keyid in role.keyids else None

    plant.replace(trust, "verify", _counting(counts, lambda role: role.threshold))


@_add(
    "keeps-a-stale-delegator",
    "A key that targets once delegated the line to goes on counting for it.",
    "stale-delegator",
)
def keeps_a_stale_delegator(plant: Plant) -> None:
    ever: dict[str, Key] = {}

    def make(right: Any) -> Any:
        def terms(held: Trust, product: str) -> Any:
            listing, delegation, keys = right(held, product)
            ever.update({keyid: keys[keyid] for keyid in delegation.role.keyids})
            role = replace(delegation.role, keyids=tuple(ever))
            return listing, replace(delegation, role=role), {**keys, **ever}

        return terms

    plant.replace(trust, "_line_terms", make)


# --- roots ------------------------------------------------------------------------------------------------------------


def _under(held: Trust, root: Envelope[Any], **other: Any) -> Trust:
    """What is held, as if its root were another."""
    return replace(held, root=replace(root, signed=replace(root.signed, **other)))


@_add("follows-a-root-by-itself", "It follows a root that its own new quorum signed, and asks no key of the old one.",
      "root-new-quorum-alone")  # fmt: skip
def follows_a_root_by_itself(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def update(held: Trust, data: bytes) -> Trust:
            found: Trust = right(_under(held, parse_root(data), version=held.root.signed.version), data)
            return replace(held, root=found.root)

        return update

    plant.replace(session, "update_root", make)


@_add("skips-versions-of-root", "It follows a root of any higher version, and so to one that no other can follow.",
      "root-skips-version")  # fmt: skip
def skips_versions_of_root(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def update(held: Trust, data: bytes) -> Trust:
            version = parse_root(data).signed.version
            if version <= held.root.signed.version:
                found: Trust = right(held, data)
            else:
                found = right(_under(held, held.root, version=version - 1), data)
            return found

        return update

    plant.replace(session, "update_root", make)


@_add("follows-a-root-that-did-not-sign-itself", "It follows a root that the old quorum signed, and the keys that it names did not.",
      "root-without-its-own-quorum")  # fmt: skip
def follows_a_root_that_did_not_sign_itself(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def verify(envelope: Envelope[Any], name: str, role: Role, *rest: Any) -> Any:
            itself = isinstance(envelope.signed, metadata.Root) and role is envelope.signed.roles[ROOT]
            return frozenset() if itself else right(envelope, name, role, *rest)

        return verify

    plant.replace(trust, "verify", make)


# --- floors -----------------------------------------------------------------------------------------------------------


@_add("never-raises-a-floor", "It never raises the floors of versions: what it holds is all that it compares with.",
      "rollback-line-after-rotation", "rollback-targets-after-rotation")  # fmt: skip
def never_raises_a_floor(plant: Plant) -> None:
    plant.replace(trust, "_raised", lambda _right: lambda held, *_: held.floors)


@_add("keeps-floors-of-replaced-keys", "A floor stays when the keys that set it are replaced: a thief locks it out for good.",
      "fast-forward-timestamp", "fast-forward-snapshot", "fast-forward-targets", "fast-forward-line")  # fmt: skip
def keeps_floors_of_replaced_keys(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def check(held: Trust, name: str, role: Role, keys: Mapping[str, Key], version: int) -> None:
            if floor := held.floors.get(name):
                staying = frozenset(key.identity() or b"" for key in keys.values())
                floors = {name: Floor(floor.value, staying)}
                held = replace(held, floors=floors)
            right(held, name, role, keys, version)

        return check

    plant.replace(trust, "_check_floor", make)


@_add("keeps-the-time-of-replaced-keys", "The time that a timestamp stated stays when its key is replaced.",
      "fast-forward-time")  # fmt: skip
def keeps_the_time_of_replaced_keys(plant: Plant) -> None:
    def telling(right: Any) -> Any:
        return lambda held, clock: max(right(held, clock), _stated(held))

    def taking(right: Any) -> Any:
        def update(held: Trust, data: bytes, clock: int | None) -> Trust:
            found: Trust = right(held, data, clock)
            return replace(found, time_floor=max(held, found, key=_stated).time_floor)

        return update

    plant.replace(Trust, "now", telling)
    plant.replace(session, "update_timestamp", taking)


def _stated(held: Trust) -> int:
    return held.time_floor.value if held.time_floor else 0


@_add("forgets-what-was-listed", "It does not compare a snapshot with the one before: a role may be dropped, or go back.",
      "relisted-line")  # fmt: skip
def forgets_what_was_listed(plant: Plant) -> None:
    plant.replace(trust, "_check_claims", always(None))


@_add("compares-no-versions", "It compares no version of a file with anything that it saw before.",
      "rollback-timestamp", "rollback-snapshot", "rollback-line", "rollback-targets")  # fmt: skip
def compares_no_versions(plant: Plant) -> None:
    plant.replace(trust, "_check_floor", always(None))
    plant.replace(trust, "_check_claims", always(None))

    def make(right: Any) -> Any:
        def update(held: Trust, data: bytes, clock: int | None) -> Trust:
            blank = replace(held, timestamp=None)
            found: Trust = right(blank, data, clock)
            return found

        return update

    plant.replace(session, "update_timestamp", make)


# --- what lists what --------------------------------------------------------------------------------------------------


def _unlisted(plant: Plant, role: str, *, version: bool) -> None:
    """Have files of one role pass whatever their lister says of their content, or of their version as well; each holds as that which was listed."""
    taken: list[tuple[bytes, MetaFile]] = []

    def content(right: Any) -> Any:
        def check(data: bytes, name: str, listing: MetaFile, *, hashed: bool) -> None:
            if name != role:
                right(data, name, listing, hashed=hashed)
            else:
                taken.append((data, listing))

        return check

    def listed(right: Any) -> Any:
        def is_listed(envelope: Envelope[Any], listing: MetaFile, *, hashed: bool) -> bool:
            return (envelope.raw, listing) in taken or bool(right(envelope, listing, hashed=hashed))

        return is_listed

    plant.replace(trust, "check_content", content)
    plant.replace(trust, "is_listed", listed)
    if not version:
        plant.replace(
            trust, "check_version", lambda right: lambda new, name, listing: name == role or right(new, name, listing)
        )  # noqa: E501


@_add("skips-the-snapshot-hash", "It does not compare the snapshot's hash with the one that the timestamp lists.",
      "mix-snapshot-signed-anew")  # fmt: skip
def skips_the_snapshot_hash(plant: Plant) -> None:
    _unlisted(plant, SNAPSHOT, version=True)


@_add("takes-any-snapshot", "It takes any signed snapshot, whichever the timestamp lists.", "mix-snapshot")
def takes_any_snapshot(plant: Plant) -> None:
    _unlisted(plant, SNAPSHOT, version=False)


@_add("skips-the-line-hash", "It does not compare the hash of the line's file with the one that the snapshot lists.",
      "same-version-line")  # fmt: skip
def skips_the_line_hash(plant: Plant) -> None:
    _unlisted(plant, plant.house.device.product, version=True)


@_add("takes-any-line", "It takes any signed file of the line, whichever the snapshot lists.", "mix-line")
def takes_any_line(plant: Plant) -> None:
    _unlisted(plant, plant.house.device.product, version=False)


@_add("goes-on-with-an-older-line", "Where the newest file of the line is withheld, it goes on with the one that it holds.",
      "withheld-line")  # fmt: skip
def goes_on_with_an_older_line(plant: Plant) -> None:
    judging = [False]

    def current(right: Any) -> Any:
        def run(held: Trust, *rest: Any) -> Any:
            judging[0] = True
            try:
                return right(replace(held), *rest)  # what another look at it came to is remembered in it
            finally:
                judging[0] = False

        return run

    def listed(right: Any) -> Any:
        def is_listed(envelope: Envelope[Any], listing: MetaFile, *, hashed: bool) -> bool:
            passes = judging[0] and isinstance(envelope.signed, Targets)
            return passes or bool(right(envelope, listing, hashed=hashed))

        return is_listed

    plant.replace(installer, "current", current)
    plant.replace(trust, "is_listed", listed)
