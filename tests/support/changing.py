"""What a command of somebody sends to a service, and all that the service holds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import Table, select

from hillhold_signer import Repository, Wish, add_release, example_signer
from hillhold_signer.places import Entry
from hillhold_signer.remote import RemoteStore
from hillhold_signer.repository import sign_bytes
from hillhold_signer.service.tables import APPROVALS, CHANGES, EVENTS, FILES, LOG_FILES, TARGETS
from hillhold_signer.serviceclient import Service
from hillhold_signer.signatures import SignatureFile
from hillhold_verifier import canonical
from servicekit import Kit
from workshop import HARDWARE, image

HASH = "0" * 64
WISH = Wish("app.bin", hardware=HARDWARE[:1])


class Kept(RemoteStore):
    """Keeps the change that it would send."""

    change: dict[str, bytes | None]

    def _send(self, written: dict[str, bytes | None]) -> None:
        self.change = dict(written)
        self._forget()


def rows(kit: Kit, *tables: Table) -> dict[str, list[Any]]:
    with kit.data.reading() as unit:
        return {table.name: sorted(map(tuple, unit.connection.execute(select(table)))) for table in tables}


def everything(kit: Kit) -> dict[str, list[Any]]:
    return rows(kit, FILES, TARGETS, CHANGES, APPROVALS)


def drafted(kit: Kit, url: str, who: str, work: Callable[[Repository], object]) -> dict[str, bytes]:
    """What a command of somebody would send."""
    with Service(url, kit.tokens[who]) as service:
        store = Kept(service)
        work(Repository(Entry(store)))
        assert None not in store.change.values()
        return {name: data for name, data in store.change.items() if data is not None}


def adds(version: str = "1.0.0", line: str = "pump", **more: Any) -> Callable[[Repository], object]:
    return lambda repository: add_release(repository, line, image(version, **more), WISH, int(time.time()))


def draft(role: str, after: list[str], signed: Mapping[str, Any]) -> dict[str, bytes]:
    data = canonical.dumps({"after": after, "role": role, "signed": dict(signed)})
    return {f"drafts/{role}/{sha256(data).hexdigest()}.json": data}


def signed_of(files: Mapping[str, bytes]) -> tuple[list[str], dict[str, Any]]:
    (data,) = files.values()
    value = json.loads(data)
    return value["after"], value["signed"]


def signature(files: Mapping[str, bytes], key: str, role: str = "pump") -> dict[str, bytes]:
    """Somebody's signature on a draft that a change brings."""
    _, signed = signed_of(files)
    payload = canonical.canonical(signed)
    made = sign_bytes(example_signer(key), payload)
    data = SignatureFile(role, signed["version"], sha256(payload).hexdigest(), made).data()
    return {f"drafts/{role}/{sha256(data).hexdigest()}.sig": data}


def events(kit: Kit) -> str:
    """All events, in the log or on their way there: of the bundles of entries, the longest has those of the others."""
    found = rows(kit, EVENTS, LOG_FILES)
    bundles = [data for path, data in found["log_files"] if path.startswith("tile/entries/")]
    return b"".join([max(bundles, key=len, default=b""), *(entry for _, entry in found["events"])]).decode("latin-1")


ODD = [
    "",
    ".",
    "..",
    "/",
    "hillhold.toml/",
    "/hillhold.toml",
    "hillhold.toml\n",
    "HILLHOLD.TOML",
    "drafts/../hillhold.toml",
    f"drafts/../drafts/pump/{HASH}.json",
    f"drafts/pump/../pump/{HASH}.json",
    f"drafts//{HASH}.json",
    f"drafts/./{HASH}.json",
    f"drafts/.hidden/{HASH}.json",
    f"drafts/Pump/{HASH}.json",
    f"drafts/{'p' * 81}/{HASH}.json",
    f"drafts/pump/{HASH}.json\x00",
    f"drafts/pu\u202emp/{HASH}.json",
    f"drafts/pump\\{HASH}.json",
    f"drafts/pump/{HASH[:-1]}.json",
    f"drafts/pump/{HASH}.json/more",
    f"drafts/pump/{HASH}.exe",
    f"people/{HASH}.",
    f"people/../{HASH}.00",
    f"revoked/{HASH}/x",
    f"image-keys/../{HASH}.pub",
    "public/metadata/../../hillhold.toml",
    "public/metadata/0.root.json",
    "public/metadata/..json",
    f"public/targets/pump/../{HASH}.app.bin",
    f"public/targets/pump/1.0.0/{HASH}../x",
    f"public/targets/pump/1.0.0/{HASH}.",
    ".lock",
    "staged/.keep",
    "log.key",
    "service.toml",
    "\ud800",
]


PUBLISHED = [
    "public/metadata/timestamp.json",
    "public/metadata/2.pump.json",
    f"public/targets/pump/1.0.0/{HASH}.app.bin",
    f"staged/{HASH}",
    f"drafts/pump/{HASH}.1.done",
]
