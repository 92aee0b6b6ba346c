"""Faults in counting signatures, and in following roots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from hillhold_bootsim.lab.broken.plant import Plant, Shelf
from hillhold_verifier import metadata, session, trust
from hillhold_verifier.errors import MetadataError, SignatureError
from hillhold_verifier.keys import SCHEMES, Key
from hillhold_verifier.metadata import ROOT, Envelope, parse_root
from hillhold_verifier.roles import Role, Root, Signature, Targets
from hillhold_verifier.trust import Trust

SIGNING: Final = Shelf()
_add = SIGNING.add


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


@_add("believes-what-is-listed", "It verifies no signature of the line's file, since its lister states its hash.",
      "strangers-line", "one-of-two-line", "changed-after-signing")  # fmt: skip
def believes_what_is_listed(plant: Plant) -> None:
    product = plant.house.device.product

    def make(right: Any) -> Any:
        def verify(envelope: Envelope[Any], name: str, *rest: Any) -> Any:
            of_line = isinstance(envelope.signed, Targets) and not envelope.signed.delegations
            return frozenset() if name in (product, "") and of_line else right(envelope, name, *rest)

        return verify

    plant.replace(trust, "verify", make)


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


@_add("goes-back-to-an-older-root", "It follows a root of a lower version, if its quorum signed it.", "rollback-root")
def goes_back_to_an_older_root(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def update(held: Trust, data: bytes) -> Trust:
            older = min(parse_root(data).signed.version - 1, held.root.signed.version)
            found: Trust = right(_under(held, held.root, version=older), data)
            return replace(held, root=found.root)

        return update

    plant.replace(session, "update_root", make)


@_add("follows-a-root-that-did-not-sign-itself", "It follows a root that the old quorum signed, and the keys that it names did not.",
      "root-without-its-own-quorum")  # fmt: skip
def follows_a_root_that_did_not_sign_itself(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def verify(envelope: Envelope[Any], name: str, role: Role, *rest: Any) -> Any:
            itself = isinstance(envelope.signed, Root) and role is envelope.signed.roles[ROOT]
            return frozenset() if itself else right(envelope, name, role, *rest)

        return verify

    plant.replace(trust, "verify", make)
