"""Keys that are too few, stolen, replaced, or somebody else's.

The attacker's image is signed by the image key that the bootloader holds: what keeps it off a board are the quorums alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import ROTATED
from hillhold_bootsim.lab.forge import MAX_VERSION, Object, Repo, SigningKey
from hillhold_bootsim.lab.house import ALL, TOP, House
from hillhold_bootsim.lab.images import image_key
from hillhold_verifier.metadata import MAX_SIGNATURES

KEY_CASES: Final = Book("keys")
_add = KEY_CASES.add

STAYS = "It refuses, and goes on running what it ran."


def usurped(house: House, root_keys: Sequence[SigningKey], signers: Sequence[SigningKey]) -> Repo:
    """A repository under a next root that gives every other role to the attacker, signed by `signers`."""
    thief = house.thief()
    house.evil(thief)
    mine = house.strangers(2)
    thief.keys |= {"timestamp": mine[:1], "snapshot": mine[1:], "targets": mine, "line": mine, "root": list(root_keys)}
    root = thief.root(version=thief.versions["root"] + 1, signers=signers)
    thief.publish(*ALL, root=root)
    return thief


# --- below the threshold ----------------------------------------------------------------------------------------------


def _others(house: House, role: str) -> Sequence[SigningKey]:
    """Keys that root names, for another role."""
    return house.repo.keys["targets" if role == "line" else "root"]


def _first(house: House, role: str) -> SigningKey:
    return house.repo.keys[role][0]


def _honest_id(house: House, role: str) -> Sequence[SigningKey]:
    second = house.repo.keys[role][1]
    return [_first(house, role), house.strangers(1)[0].named(second.keyid)]


Signers = Callable[[House, str], Sequence[SigningKey]]
_WAYS: Final[dict[str, tuple[Signers, str, str, tuple[str, ...]]]] = {
    "one-of-two": (
        lambda house, role: [_first(house, role)],
        "signed by one key of two that are needed",
        "Who has one key of the quorum signs alone",
        (of.TUF_THRESHOLD, of.TUF_COMPROMISE, *kinds.MITIGATION, *kinds.FORGED),
    ),
    "one-key-twice": (
        lambda house, role: [_first(house, role)] * 2,
        "signed twice by one key",
        "One key of the quorum signs twice, so that there are two signatures",
        (of.ONE_KEY_TWICE, of.TUF_THRESHOLD, *kinds.WEAKNESS),
    ),
    "one-key-two-ids": (
        lambda house, role: [_first(house, role), _first(house, role).named("ab" * 32)],
        "signed by one key under two ids",
        "One key of the quorum signs under its id and under another one",
        (of.ONE_KEY_TWICE, of.TUF_THRESHOLD, *kinds.WEAKNESS),
    ),
    "honest-id": (
        _honest_id,
        "signed by one key, and by a stranger's under an honest id",
        "The second signature is a stranger's, under the id of a key of the quorum",
        (of.TUF_THRESHOLD, of.TUF_ARBITRARY, *kinds.FORGED),
    ),
    "strangers": (
        lambda house, _role: house.strangers(2),
        "signed by strangers",
        "Two keys that no role names sign",
        (of.TUF_ARBITRARY, of.TUF_TARGETS_SIGNED, of.CR_3_4_AUTHENTIC, *kinds.FORGED),
    ),
    "other-role": (
        _others,
        "signed by the keys of another role",
        "Keys sign that the metadata name, for another role",
        (of.TUF_TARGETS_SIGNED, of.TUF_COMPROMISE, *kinds.FORGED),
    ),
}


def _quorum(way: str, role: str) -> None:
    signers, sentence, how, sources = _WAYS[way]
    name = "the product line" if role == "line" else "targets"

    @_add(
        f"{way}-{role}",
        f"Metadata of {name} {sentence}",
        how=f"{how}. Who does it has the online keys as well, so that all else is in order, and lists an image above all versions.",
        expected=STAYS,
        sources=sources,
        leaves=ROTATED,
    )
    def forged(bench: Bench) -> None:
        house = bench.house
        thief = house.thief()
        data = house.evil(thief)
        roles = ("targets", "line") if role == "targets" else ("line",)
        if role == "targets":  # who makes targets gives the line to whom they want
            thief.keys["line"] = house.strangers(2)
        bad = getattr(thief, role)(signers=signers(house, role))
        thief.publish(*(one for one in (*roles, "snapshot", "timestamp") if one != role), **{role: bad})
        bench.push(thief)
        bench.smuggle(data)
        bench.stolen()


for _role in ("line", "targets"):
    for _way in _WAYS:
        _quorum(_way, _role)


@_add(
    "changed-after-signing",
    "The line's file, changed after its quorum signed it",
    how="The attacker's image is put into the list, and the signatures stay as they were. Timestamp and snapshot list the changed file.",
    expected=STAYS,
    sources=(
        of.TUF_TARGETS_SIGNED,
        of.TUF_ARBITRARY,
        of.CR_3_4,
        of.FDA_DESCRIBED,
        of.EN_VERIFY,
        of.CRA_INTEGRITY,
        *kinds.FORGED,
    ),
    leaves=ROTATED,
)
def changed_after_signing(bench: Bench) -> None:
    house = bench.house
    thief = house.thief()
    honest = house.repo.entries
    house.evil(thief)
    entries = thief.entries

    def change(whole: Object) -> None:
        whole["signed"]["targets"] = entries

    thief.entries = honest
    thief.publish("snapshot", "timestamp", line=thief.line(edit_envelope=change))
    bench.push(thief)
    bench.stolen()


@_add(
    "delegated-two-ids",
    "A delegation that lists one key under two ids, so that one person is a quorum",
    how="Targets, properly signed by a quorum that did not look closely, name one key of the line twice; it signs under both ids.",
    expected="Keys are counted, not their ids: it refuses.",
    sources=(of.ONE_KEY_TWICE, of.TUF_THRESHOLD, *kinds.WEAKNESS),
    leaves=ROTATED,
)
def delegated_two_ids(bench: Bench) -> None:
    house = bench.house
    thief = house.thief()
    house.evil(thief)
    first = thief.keys["line"][0]
    thief.keys["line"] = [first, first.named("cd" * 32)]
    thief.publish()
    bench.push(thief)
    thief.publish(*ALL)
    bench.push(thief)
    bench.stolen()


# --- root -------------------------------------------------------------------------------------------------------------


def _root(id: str, sentence: str, how: str, made: Callable[[House], Repo]) -> None:
    @_add(
        id,
        sentence,
        how=f"{how} The new root gives every other role to the attacker.",
        expected="It keeps its root, and goes on running what it ran.",
        sources=(of.TUF_ROOT, of.TUF_COMPROMISE, of.TUF_THRESHOLD, of.EN_TRUST, *kinds.ROOT),
    )
    def forged(bench: Bench) -> None:
        bench.push(made(bench.house))


_root(
    "root-one-of-two",
    "A next root that one key of two signed",
    "Who has one root key signs a next root with it.",
    lambda house: usurped(house, house.repo.keys["root"], house.repo.keys["root"][:1]),
)
_root(
    "root-one-key-twice",
    "A next root that one key signed twice",
    "Who has one root key signs a next root twice.",
    lambda house: usurped(house, house.repo.keys["root"], [house.repo.keys["root"][0]] * 2),
)
_root(
    "root-new-quorum-alone",
    "A next root that only its own new quorum signed",
    "A next root replaces the root keys, and only the new ones have signed it.",
    lambda house: usurped(house, house.strangers(3), house.strangers(2)),
)
_root(
    "root-old-and-new-one-each",
    "A next root that one old and one new key signed",
    "A next root replaces the root keys; one of the old and one of the new have signed it.",
    lambda house: usurped(house, house.strangers(3), [house.repo.keys["root"][0], house.strangers(1)[0]]),
)
_root(
    "root-by-other-roles",
    "A next root that the keys of targets signed",
    "The quorum of targets signs a next root.",
    lambda house: usurped(house, house.repo.keys["root"], house.repo.keys["targets"]),
)


@_add(
    "root-skips-version",
    "A root that skips versions, signed by its quorum",
    how="A root of a version far ahead, signed by root's quorum, is sent as the next one.",
    expected="Each root is the next version: it refuses, and follows the honest next one.",
    sources=(of.TUF_ROOT_VERSION, of.TUF_FAST_FORWARD, of.CR_7_1, *kinds.UPDATABLE),
    leaves=ROTATED,
)
def root_skips_version(bench: Bench) -> None:
    house = bench.house
    now = house.repo.versions["root"]
    for version in (now + 2, now + 1000, MAX_VERSION):
        forged = house.thief().root(version=version)
        bench.push({**house.repo.tree, f"metadata/{now + 1}.root.json": forged})
        bench.deliver(0, forged)
    bench.stolen()  # the next honest root has to be taken


@_add(
    "many-signatures-root",
    "A root with as many signatures as a file has room for",
    how="A next root carries hundreds of signatures by keys that it brings itself, and by the role's own ids.",
    expected="It refuses in bounded time, and takes honest files afterwards.",
    sources=(of.MANY_SIGNATURES, *kinds.WEAKNESS, *kinds.AVAILABLE),
)
def many_signatures_root(bench: Bench) -> None:
    thief = bench.house.thief()
    own = [one.keyid for one in thief.keys["root"]]
    for count in (MAX_SIGNATURES, MAX_SIGNATURES + 1, 4 * MAX_SIGNATURES):

        def flood(whole: Object, count: int = count) -> None:
            ids = own + [f"{number:064x}" for number in range(count - len(own))]
            whole["signatures"] = [{"keyid": keyid, "sig": "ab" * 64} for keyid in ids]

        bench.deliver(0, thief.root(version=thief.versions["root"] + 1, edit_envelope=flood))


@_add(
    "many-signatures-timestamp",
    "A timestamp with as many signatures as a file has room for",
    how="A next timestamp carries dozens of signatures, of its key's own id again and again.",
    expected="It refuses in bounded time, and takes honest files afterwards.",
    sources=(of.MANY_SIGNATURES, of.TUF_TIMESTAMP_SIGNED, *kinds.WEAKNESS, *kinds.AVAILABLE),
)
def many_signatures_timestamp(bench: Bench) -> None:
    thief = bench.house.thief()
    own = thief.keys["timestamp"][0].keyid
    for keyids in ([own] * 30, [own, *(f"{number:064x}" for number in range(60))]):

        def flood(whole: Object, keyids: list[str] = keyids) -> None:
            whole["signatures"] = [{"keyid": keyid, "sig": "ab" * 64} for keyid in keyids]

        bench.deliver(1, thief.timestamp(edit_envelope=flood))


# --- online keys ------------------------------------------------------------------------------------------------------


@_add(
    "timestamp-by-stranger",
    "A timestamp that a stranger signed",
    how="Without any key, a stranger signs timestamp, snapshot and the line's file with an image above all versions.",
    expected=STAYS,
    sources=(of.TUF_TIMESTAMP_SIGNED, of.TUF_ARBITRARY, of.SUM_4, *kinds.FORGED),
)
def timestamp_by_stranger(bench: Bench) -> None:
    house = bench.house
    thief = house.thief()
    data = house.evil(thief)
    mine = house.strangers(2)
    thief.keys |= {"timestamp": mine[:1], "snapshot": mine[1:], "line": mine}
    thief.publish("line", "snapshot", "timestamp")
    bench.push(thief)
    bench.smuggle(data)


@_add(
    "timestamp-by-snapshot-key",
    "Timestamp and snapshot, each signed by the other's key",
    how="The two online keys are exchanged, on a release that was withdrawn.",
    expected="A key counts for the role that root gives it: it refuses.",
    sources=(of.TUF_TIMESTAMP_SIGNED, of.TUF_COMPROMISE, *kinds.FORGED),
    leaves=ROTATED,
)
def timestamp_by_snapshot_key(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    thief = house.thief()
    house.repo.change(release.path, withdrawn="it stops the pump")
    house.publish()
    bench.check(house.repo)
    thief.versions |= house.repo.versions
    thief.keys |= {"timestamp": thief.keys["snapshot"], "snapshot": thief.keys["timestamp"]}
    thief.publish("line", "snapshot", "timestamp")
    bench.push(thief)
    bench.stolen()


# --- delegators -------------------------------------------------------------------------------------------------------


@_add(
    "stale-delegator",
    "Keys of the line that were replaced go on signing",
    how="Targets replace the line's keys, and the board follows. Who has the old ones, and the online keys, lists an image by them.",
    expected="A role is judged by its delegator of now: it refuses.",
    sources=(of.TUF_DELEGATION, of.TUF_COMPROMISE, of.UPTANE, *kinds.COMBINED),
    leaves=ROTATED,
)
def stale_delegator(bench: Bench) -> None:
    house, repo = bench.house, bench.house.repo
    old = repo.keys["line"]
    repo.keys["line"] = [house.key(f"line-new-{number}") for number in range(3)]
    house.publish()
    bench.check(repo)
    thief = house.thief()
    data = house.evil(thief)
    thief.publish("snapshot", "timestamp", line=thief.line(signers=old[:2]))
    bench.push(thief)
    bench.deliver(4, thief.files["line"])
    bench.smuggle(data)
    bench.stolen()


@_add(
    "other-line-signs",
    "Another line's team signs in the name of this one",
    how="Targets delegate another product to its team. That team, with the online keys, signs the file of this board's line.",
    expected=STAYS,
    sources=(of.TUF_DELEGATION, of.TUF_WRONG, of.TUF_COMPROMISE, *kinds.FORGED),
    leaves=ROTATED,
)
def other_line_signs(bench: Bench) -> None:
    house = bench.house
    thief = house.thief()
    house.evil(thief)
    team = house.strangers(2)

    def delegate(signed: Object) -> None:
        roles = signed["delegations"]["roles"]
        theirs = {"keyids": [one.keyid for one in team], "name": "valve", "paths": ["valve/*/*"], "threshold": 2}
        signed["delegations"]["keys"].update({one.keyid: one.entry for one in team})
        roles.append({**roles[0], **theirs})

    thief.publish("snapshot", "timestamp", targets=thief.targets(edit=delegate), line=thief.line(signers=team))
    bench.push(thief)
    bench.stolen()


@_add(
    "line-quorum-stolen",
    "The line's whole quorum and the online keys are stolen, and the image key is not",
    how="All metadata are in order and list an image that a stranger's image key signed.",
    expected="The bootloader does not start it; the board goes back to what it ran.",
    sources=(of.TUF_COMPROMISE, of.MCUBOOT_SIGNATURE, of.NIST_RESTORED, *kinds.COMBINED, *kinds.UNSIGNED),
    leaves=ROTATED,
)
def line_quorum_stolen(bench: Bench) -> None:
    house = bench.house
    thief = house.thief()
    house.offer(thief, TOP, house.image(TOP, key=image_key("stranger")), house.counter)
    thief.publish("line", "snapshot", "timestamp")
    bench.push(thief)
    bench.stolen()
