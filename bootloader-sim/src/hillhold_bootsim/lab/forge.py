"""Makes TUF metadata, right or wrong, without any of the code under test.

Keys are derived from names, signatures come straight from `cryptography`, and canonical JSON is written here a second time: what the
verifier accepts from here it accepts for its own reasons. Everything is deterministic, so a failing case can be looked at again.

    repo = Repo()
    repo.add_release("1.1.0", b"image")
    tree = repo.publish()                                   # {"metadata/1.root.json": b"...", ...}
    forged = repo.timestamp(version=9, signers=[key("mallory")])

The methods that are named after a role make the bytes of one file out of the repository's fields and change nothing; their arguments
override single things (`Overrides`). `publish` makes a generation and keeps it in
`files`, which is what the listers list from then on. Times are Unix seconds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, TypeAlias, TypedDict, Unpack

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Object: TypeAlias = dict[str, Any]
Edit: TypeAlias = Callable[[Object], object]

T0 = 1_767_225_600
"""2026-01-01T00:00:00Z, the time at which a `Repo` starts."""
HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400
MAX_VERSION = 2**53 - 1
"""The highest version that metadata can state: what a thief signs to lock everybody out."""
TOP = ("root", "timestamp", "snapshot", "targets")


def date(seconds: int) -> str:
    """Unix seconds as TUF writes a date."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def canon(value: object) -> bytes:
    """OLPC canonical JSON, from its definition."""

    def write(item: object) -> str:
        if isinstance(item, dict):
            return "{" + ",".join(f"{write(name)}:{write(item[name])}" for name in sorted(item)) + "}"
        if isinstance(item, list):
            return "[" + ",".join(map(write, item)) + "]"
        if isinstance(item, str):
            return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return (
            {True: "true", False: "false", None: "null"}[item]
            if item is None or item is True or item is False
            else str(item)
        )

    return write(value).encode()


def compact(value: object) -> bytes:
    """Compact sorted JSON: how files are written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class SigningKey:
    """A private key. `keyid` is what signatures and roles call it; `named` gives the same key another id."""

    name: str
    private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    keyid: str = ""

    def __post_init__(self) -> None:
        if not self.keyid:
            object.__setattr__(self, "keyid", sha256(canon(self.entry)).hexdigest())

    @property
    def entry(self) -> Object:
        """The key as metadata states it."""
        if isinstance(self.private, Ed25519PrivateKey):
            public = self.private.public_key().public_bytes_raw().hex()
            return {"keytype": "ed25519", "keyval": {"public": public}, "scheme": "ed25519"}
        pem = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {"keytype": "ecdsa", "keyval": {"public": pem.decode()}, "scheme": "ecdsa-sha2-nistp256"}

    def named(self, keyid: str) -> SigningKey:
        """The same key under another id."""
        return replace(self, keyid=keyid)

    def sign(self, message: bytes) -> bytes:
        """Sign `message`, as TUF has it."""
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(message)
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


@cache
def key(name: str) -> SigningKey:
    """The Ed25519 key of that name."""
    return SigningKey(name, Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


@cache
def ecdsa_key(name: str) -> SigningKey:
    """The ECDSA P-256 key of that name."""
    number = int.from_bytes(sha256(b"p256" + name.encode()).digest()[1:])
    return SigningKey(name, ec.derive_private_key(number, ec.SECP256R1()))


def keys(*names: str) -> list[SigningKey]:
    """The Ed25519 keys of these names."""
    return [key(name) for name in names]


def envelope(signed: object, signers: Sequence[SigningKey], edit: Edit | None = None) -> bytes:
    """A metadata file: `signed`, signed by each of `signers`; `edit` may change the whole object after that."""
    payload = canon(signed)
    signatures = [{"keyid": signer.keyid, "sig": signer.sign(payload).hex()} for signer in signers]
    whole: Object = {"signatures": signatures, "signed": signed}
    if edit:
        whole = copy.deepcopy(whole)
        edit(whole)
    return compact(whole)


def listing(data: bytes) -> Object:
    """What a lister says of the file `data`."""
    return {"hashes": {"sha256": sha256(data).hexdigest()}, "version": version_of(data)}


def version_of(data: bytes) -> int:
    """The version that the file `data` states."""
    return int(json.loads(data)["signed"]["version"])


class Overrides(TypedDict, total=False):
    """What may be overridden in any file; `edit` changes `signed` before it is signed, `edit_envelope` the whole file after."""

    version: int
    expires: int
    signers: Sequence[SigningKey]
    edit: Edit
    edit_envelope: Edit


class Repo:
    """A repository of one product line. Set its fields, `publish`, and set them again; every field is meant to be changed.

    Attributes:
        keys, thresholds: by role, with `line` for the product's role.
        versions: of each role's last published file; 0 before the first.
        expires: Unix seconds for each role.
        issued: Unix seconds, `x-hillhold-issued` of timestamps; None leaves it out.
        hardware, max_security_counter, max_offline_grace: what the delegation allows the line.
        offline_grace: what the line claims; 0 leaves it out.
        entries: the line's targets by path, as metadata states them; `blobs`: their bytes.
        files: the last published file of each role.
        tree: everything published so far, by its name in the published tree.
    """

    def __init__(self, product: str = "pump", hardware: Sequence[str] = ("nrf-a",)) -> None:
        self.product = product
        self.hardware = sorted(hardware)
        self.keys: dict[str, list[SigningKey]] = {
            "root": keys("root-1", "root-2", "root-3"),
            "timestamp": keys("timestamp-1"),
            "snapshot": keys("snapshot-1"),
            "targets": keys("targets-1", "targets-2", "targets-3"),
            "line": keys("line-1", "line-2", "line-3"),
        }
        self.thresholds = {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 2, "line": 2}
        self.versions = dict.fromkeys((*TOP, "line"), 0)
        self.expires = {
            "root": T0 + 2 * YEAR,
            "timestamp": T0 + 7 * DAY,
            "snapshot": T0 + 30 * DAY,
            "targets": T0 + YEAR,
            "line": T0 + YEAR,
        }
        self.issued: int | None = T0
        self.max_security_counter = 100
        self.max_offline_grace = 30 * DAY
        self.offline_grace = 0
        self.entries: Object = {}
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.tree: dict[str, bytes] = {}
        self._root_signers: list[SigningKey] = []

    # --- what the line offers

    def add_release(
        self,
        version: str,
        image: bytes,
        *,
        hardware: Sequence[str] | None = None,
        counter: int = 0,
        file: str = "app.bin",
        path: str | None = None,
        **custom: object,
    ) -> str:
        """List a release and return its path; a `custom` value of None removes that field."""
        fields: Object = {
            "format": "raw",
            "hardware": sorted(hardware if hardware is not None else self.hardware),
            "kind": "feature",
            "security_counter": counter,
            "v": 1,
            "version": version,
        }
        return self.add_target(path or f"{self.product}/{version}/{file}", image, fields, **custom)

    def add_patch(
        self,
        makes: str,
        base: bytes,
        patch: bytes,
        *,
        algorithm: str = "bsdiff-lzma",
        path: str | None = None,
        **custom: object,
    ) -> str:
        """List a patch that makes the target `makes` from the image `base`, and return its path."""
        digest = sha256(base).hexdigest()
        fields: Object = {"algorithm": algorithm, "base": digest, "base_length": len(base), "makes": makes, "v": 1}
        return self.add_target(path or f"{makes}.{digest[:16]}.patch", patch, fields, **custom)

    def add_target(self, path: str, data: bytes, fields: Object, **custom: object) -> str:
        """List any target with `fields`, changed by `custom`, as its `custom.hillhold`, and return its path."""
        merged = {name: value for name, value in (fields | custom).items() if value is not None}
        self.entries[path] = {
            "custom": {"hillhold": merged},
            "hashes": {"sha256": sha256(data).hexdigest()},
            "length": len(data),
        }
        self.blobs[path] = data
        return path

    def change(self, path: str, **custom: object) -> None:
        """Change `custom.hillhold` of a listed target; a value of None removes that field."""
        fields = self.entries[path]["custom"]["hillhold"]
        fields.update(custom)
        for name in [name for name, value in fields.items() if value is None]:
            del fields[name]

    # --- the bytes of one file

    def root(
        self,
        *,
        keys: Mapping[str, Sequence[SigningKey]] | None = None,
        thresholds: Mapping[str, int] | None = None,
        **over: Unpack[Overrides],
    ) -> bytes:
        """Root metadata, by default signed by a quorum of the root before and of this one."""
        by_role = {**self.keys, **(keys or {})}
        numbers = {**self.thresholds, **(thresholds or {})}
        body = self._common("root", over) | {
            "consistent_snapshot": True,
            "keys": {one.keyid: one.entry for role in TOP for one in by_role[role]},
            "roles": {
                role: {"keyids": [one.keyid for one in by_role[role]], "threshold": numbers[role]} for role in TOP
            },
        }
        quorum = list(by_role["root"][: numbers["root"]])
        before = [one for one in self._root_signers if one not in quorum]
        return self._sign("root", body, {"signers": [*before, *quorum], **over})

    def targets(self, **over: Unpack[Overrides]) -> bytes:
        """Top-level targets, which delegate to the line."""
        line = self.keys["line"]
        entry = {
            "keyids": [one.keyid for one in line],
            "name": self.product,
            "paths": [f"{self.product}/*/*"],
            "terminating": True,
            "threshold": self.thresholds["line"],
            "x-hillhold": {
                "hardware": self.hardware,
                "max_offline_grace": self.max_offline_grace,
                "max_security_counter": self.max_security_counter,
            },
        }
        body = self._common("targets", over) | {
            "delegations": {"keys": {one.keyid: one.entry for one in line}, "roles": [entry]},
            "targets": {},
        }
        return self._sign("targets", body, over)

    def line(self, **over: Unpack[Overrides]) -> bytes:
        """The role of the product line, with all its releases and patches."""
        body = self._common("line", over) | {"targets": self.entries}
        if self.offline_grace:
            body["x-hillhold-offline-grace"] = self.offline_grace
        return self._sign("line", body, over)

    def snapshot(self, *, targets: bytes | None = None, line: bytes | None = None, **over: Unpack[Overrides]) -> bytes:
        """A snapshot that lists `targets` and `line`, by default the published ones."""
        body = self._common("snapshot", over) | {
            "meta": {
                "targets.json": listing(targets if targets is not None else self.files["targets"]),
                f"{self.product}.json": listing(line if line is not None else self.files["line"]),
            }
        }
        return self._sign("snapshot", body, over)

    def timestamp(
        self, *, issued: int | None = None, snapshot: bytes | None = None, **over: Unpack[Overrides]
    ) -> bytes:
        """A timestamp that lists `snapshot`, by default the published one."""
        body = self._common("timestamp", over) | {
            "meta": {"snapshot.json": listing(snapshot if snapshot is not None else self.files["snapshot"])}
        }
        if (when := issued if issued is not None else self.issued) is not None:
            body["x-hillhold-issued"] = date(when)
        return self._sign("timestamp", body, over)

    # --- generations

    def publish(self, *roles: str, **made: bytes) -> dict[str, bytes]:
        """Publish the next version of each of `roles`, and return the whole tree so far.

        Without `roles`: line, snapshot and timestamp, and the first time everything. `made` are files to publish in place of one that
        this would make, such as `timestamp=repo.timestamp(...)`; they count as published at the version that they state.
        """
        chosen = set(roles) or ({"line", "snapshot", "timestamp"} if self.files else {*TOP, "line"})
        for role in ("root", "targets", "line", "snapshot", "timestamp"):
            if role in made:
                self._keep(role, made[role])
            elif role in chosen:
                self.versions[role] += 1
                build: Callable[..., bytes] = getattr(self, role)
                self._keep(role, build(version=self.versions[role]))
        for path, blob in self.blobs.items():
            folder, _, name = path.rpartition("/")
            self.tree[f"targets/{folder}/{sha256(blob).hexdigest()}.{name}"] = blob
        return dict(self.tree)

    def rotate(self, *roles: str) -> dict[str, bytes]:
        """Replace all keys of `roles`, publish what that needs and everything that lists it, and return the whole tree."""
        for role in roles:
            self.keys[role] = [self._successor(one) for one in self.keys[role]]
        return self.publish(*({"root"} if set(roles) - {"line"} else set()), "targets", "line", "snapshot", "timestamp")

    @staticmethod
    def _successor(old: SigningKey) -> SigningKey:
        make = key if isinstance(old.private, Ed25519PrivateKey) else ecdsa_key
        return make(old.name + "'")

    def _keep(self, role: str, data: bytes) -> None:
        self.versions[role] = version_of(data)
        self.files[role] = data
        if role == "root":
            self._root_signers = self.keys["root"][: self.thresholds["root"]]
        name = self.product if role == "line" else role
        self.tree[f"metadata/{name}.json" if role == "timestamp" else f"metadata/{self.versions[role]}.{name}.json"] = (
            data
        )

    def _common(self, role: str, over: Overrides) -> Object:
        return {
            "_type": "targets" if role == "line" else role,
            "expires": date(over.get("expires", self.expires[role])),
            "spec_version": "1.0.31",
            "version": over.get("version", self.versions[role] + 1),
        }

    def _sign(self, role: str, body: Object, over: Overrides) -> bytes:
        signed = copy.deepcopy(body)
        if edit := over.get("edit"):
            edit(signed)
        signers = over.get("signers", self.keys[role][: self.thresholds[role]])
        return envelope(signed, signers, over.get("edit_envelope"))
