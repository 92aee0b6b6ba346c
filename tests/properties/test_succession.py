"""What is verified of a publication, beside a full verification by python-tuf: the same answer over random publications, right or wrong.

`check_succession` looks at what is new and what that affects; python-tuf's client verifies the whole tree as it would be. Where the
signer is stricter, it is by the rule of succession alone, which this module computes once more, from the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import event, given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Role, Root, Snapshot, Targets, Timestamp

from hillhold_signer import encoding
from hillhold_signer.chain import load_chain, verify_chain, verify_roots
from hillhold_signer.errors import SignerRefused, VerifyRefused
from hillhold_signer.layout import file_name
from hillhold_signer.succession import New, check_succession
from hillhold_verifier.errors import MetadataError

EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)
LINES = ("pump", "scale", "valve")
TOP = ("root", "targets", "snapshot", "timestamp")

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@cache
def signer(name: str) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


@dataclass
class Tree:
    """A tree to be: who signs what, which versions, and the files of all versions so far."""

    keys: dict[str, str] = field(default_factory=lambda: {name: name for name in (*TOP, *LINES)})
    lines: tuple[str, ...] = LINES
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*TOP, *LINES), 1))
    meta: dict[str, MetaFile] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> Tree:
        return Tree(dict(self.keys), self.lines, dict(self.versions), dict(self.meta), dict(self.files))

    def make(self, role: str, by: str | None = None) -> New:
        """Sign a role's current version, by its key or by that of another name."""
        made = self._signed(role)
        payload = encoding.signed_bytes(made)
        signers = [signer(by or self.keys.get(role, role))]
        if role == "root" and by is None:
            signers.append(signer("root"))
        signatures = {one.public_key.keyid: one.sign(payload) for one in signers}
        new = New(role, self.versions[role], encoding.file_bytes(made, signatures, role))
        self.files[new.name] = new.data
        if role not in ("root", "timestamp", "snapshot"):
            self.meta[f"{role}.json"] = listing(new)
        return new

    def _signed(self, role: str) -> Root | Timestamp | Snapshot | Targets:
        version = self.versions[role]
        if role == "root":
            keys = {name: signer(self.keys.get(name, name)).public_key for name in TOP}
            roles = {name: Role([key.keyid], 1) for name, key in keys.items()}
            return Root(version, None, EXPIRES, {key.keyid: key for key in keys.values()}, roles, True)
        if role == "timestamp":
            data = self.files[file_name("snapshot", self.versions["snapshot"])]
            return Timestamp(version, None, EXPIRES, listing(New("snapshot", self.versions["snapshot"], data)))
        if role == "snapshot":
            return Snapshot(version, None, EXPIRES, dict(self.meta))
        if role != "targets":
            return Targets(version, None, EXPIRES, {})
        below = {name: signer(self.keys.get(name, name)).public_key for name in self.lines}
        delegated = {
            name: DelegatedRole(name, [key.keyid], 1, True, [f"{name}/*/*"], None) for name, key in below.items()
        }
        return Targets(version, None, EXPIRES, {}, Delegations({key.keyid: key for key in below.values()}, delegated))


def listing(new: New) -> MetaFile:
    return MetaFile(new.version, None, {"sha256": sha256(new.data).hexdigest()})


@cache
def first() -> Tree:
    tree = Tree()
    for role in ("root", "targets", *LINES, "snapshot", "timestamp"):
        tree.make(role)
    return tree


Plan = dict[str, object]
plans = st.fixed_dictionaries(
    {
        "lines": st.sets(st.sampled_from((*LINES, "clock"))),
        "targets": st.sampled_from(("no", "same", "rekey", "drop", "add")),
        "root": st.sampled_from(("no", "same", "targets", "online")),
        "signed by": st.dictionaries(st.sampled_from((*TOP, *LINES)), st.sampled_from(("thief", "pump")), max_size=1),
        "versions": st.dictionaries(st.sampled_from((*TOP[1:], *LINES)), st.sampled_from((0, 2)), max_size=1),
        "entry": st.sampled_from(("right", "right", "right", "bumped", "dropped", "hash", "older")),
        "of": st.sampled_from((*LINES, "targets")),
        "snapshot": st.sampled_from((True, True, True, False)),
    }
)


def publication(plan: Plan) -> tuple[Tree, Tree, dict[str, New]]:
    """The tree before, the tree after, and what is new."""
    old = first()
    tree = old.copy()
    lines, wrong, by = plan["lines"], plan["versions"], plan["signed by"]
    assert isinstance(lines, set)
    assert isinstance(wrong, dict)
    assert isinstance(by, dict)
    new: dict[str, New] = {}

    def make(role: str) -> None:
        tree.versions[role] = tree.versions.get(role, 0) + wrong.get(role, 1)
        new[role] = tree.make(role, by.get(role))

    if plan["root"] != "no":
        for role in {"targets": ("targets",), "online": ("snapshot", "timestamp")}.get(str(plan["root"]), ()):
            tree.keys[role] = f"new {role}"
        make("root")
    if plan["targets"] != "no":
        if plan["targets"] == "rekey":
            tree.keys["pump"] = "new pump"
        tree.lines = {"drop": LINES[1:], "add": (*LINES, "clock")}.get(str(plan["targets"]), LINES)
        make("targets")
    for role in sorted(lines):
        make(role)
    name = f"{plan['of']}.json"
    was = tree.meta[name]
    if plan["entry"] == "dropped":
        del tree.meta[name]
    elif plan["entry"] == "older":
        tree.meta[name] = MetaFile(was.version, None, {"sha256": sha256(b"another").hexdigest()})
    elif plan["entry"] == "bumped":
        tree.meta[name] = MetaFile(was.version + 1, None, was.hashes)
    elif plan["entry"] == "hash":
        tree.meta[name] = MetaFile(was.version, None, None)
    if plan["snapshot"]:
        make("snapshot")
    make("timestamp")
    return old, tree, new


def by_python_tuf(files: Mapping[str, bytes]) -> bool:
    try:
        verify_chain(files.get, at=0)
    except VerifyRefused:
        return False
    return True


def succeeds(old: Tree, tree: Tree, new: Mapping[str, New]) -> bool:
    """The rule of succession: versions go up by one, and the snapshot changes by what is published, and by nothing else."""
    if any(item.version != old.versions.get(role, 0) + 1 for role, item in new.items()):
        return False
    snapshot = Metadata[Snapshot].from_bytes(tree.files[file_name("snapshot", tree.versions["snapshot"])]).signed
    wanted = {name: meta.to_dict() for name, meta in old.meta.items()}
    wanted |= {f"{r}.json": listing(i).to_dict() for r, i in new.items() if r not in ("root", "snapshot", "timestamp")}
    delegated = all(role in (*TOP, *tree.lines) for role in new)
    return delegated and {name: meta.to_dict() for name, meta in snapshot.meta.items()} == wanted


@given(plans)
def test_the_short_verification_says_what_the_whole_one_says(plan: Plan) -> None:
    old, tree, new = publication(plan)
    roots = verify_roots(old.files.get)
    assert roots
    chain = load_chain(old.files.get, roots[0].root, roots[1])
    before = dict(old.files)
    try:
        check_succession(chain, roots[0].root, new, before.get)
        found = True
    except VerifyRefused:
        found = False
    whole, rule = by_python_tuf({**before, **{item.name: item.data for item in new.values()}}), succeeds(old, tree, new)
    event(f"accepted {found}, python-tuf {whole}, successor {rule}")
    assert found == (whole and rule)


@given(plans.map(lambda plan: {**plan, "signed by": {}, "versions": {}, "entry": "right", "snapshot": True}))
def test_an_honest_publication_is_accepted_unless_it_leaves_a_line_with_keys_that_did_not_sign_it(plan: Plan) -> None:
    old, _, new = publication(plan)
    roots = verify_roots(old.files.get)
    assert roots
    chain = load_chain(old.files.get, roots[0].root, roots[1])
    lines = plan["lines"]
    assert isinstance(lines, set)
    right = not (
        (plan["targets"] == "rekey" and "pump" not in lines)
        or ("pump" in lines and plan["targets"] == "drop")
        or ("clock" in lines and plan["targets"] != "add")
        or (plan["root"] == "targets" and plan["targets"] == "no")
    )
    try:
        check_succession(chain, roots[0].root, new, old.files.get)
        assert right
    except VerifyRefused:
        assert not right


@given(st.sampled_from(sorted(first().files)), st.data())
def test_a_published_file_with_another_byte_is_refused_when_it_is_read(name: str, draw: st.DataObject) -> None:
    files = dict(first().files)
    data = bytearray(files[name])
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    files[name] = bytes(data)
    accepted = by_python_tuf(files)
    try:
        roots = verify_roots(files.get)
        assert roots
        chain = load_chain(files.get, roots[0].root, roots[1])
        assert {product: chain.lines[product].version for product in chain.lines} == dict.fromkeys(LINES, 1)
    except SignerRefused:
        return
    # What neither hash nor signature covers: something in root or timestamp beside the signed part.
    assert accepted
    assert name in ("1.root.json", "timestamp.json")


@given(st.sampled_from(sorted(first().files)), st.binary(max_size=30), st.integers(0, 2000), st.integers(0, 2000))
def test_any_bytes_are_read_or_refused(name: str, noise: bytes, start: int, end: int) -> None:
    data = first().files[name]
    data = data[:start] + noise + data[end:]
    for parse in (
        lambda data: encoding.parse(data, Root),
        lambda data: encoding.parse(data, Timestamp),
        lambda data: encoding.parse(data, Snapshot),
        lambda data: encoding.parse(data, Targets),
    ):
        try:
            _, payload = parse(data)
        except MetadataError:
            continue
        assert payload in data
