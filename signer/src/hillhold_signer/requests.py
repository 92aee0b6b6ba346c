"""Signing on another machine: a request goes there as a file, a signature comes back as one.

    {"hillhold":"request","v":1,"role":"pump","sha256":HEX64,"signed":{…},"delegator":{…}|null,
     "published":{"1.root.json":"…", …},"demo":false,"people":{KEYID:NAME}}

A request is bound to the bytes that are to be signed. It also carries what is published, so that the other machine shows the same
difference and knows whose signatures are asked for: the roots, `timestamp.json`, snapshot, targets, and the role itself. All of that is
verified by python-tuf from a root that the person keeps, if there is one; from the request's own first root, otherwise, which is the
request's word. `delegator` is the draft of who says whose keys count, where that is drafted too: nobody has signed it yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from hillhold_signer import encoding
from hillhold_signer.ceremony import MAX_PERSON
from hillhold_signer.chain import verify_roots
from hillhold_signer.config import MAX_PEOPLE
from hillhold_signer.drafts import Draft, Quorum, parse_signed, quorum
from hillhold_signer.errors import RequestRefused, SigningRefused, VerifyRefused
from hillhold_signer.examples import refuse_public
from hillhold_signer.layout import file_name, is_segment
from hillhold_signer.repository import Repository, sign_bytes
from hillhold_signer.signatures import VERSION, SignatureFile, opened
from hillhold_signer.state import published_files
from hillhold_verifier import canonical
from hillhold_verifier.metadata import max_bytes

MAX_REQUEST: Final = 8 * 1024 * 1024
"""Bytes: some metadata files of the largest size, escaped, and many roots."""

_FIELDS: Final = {"hillhold", "v", "role", "sha256", "signed", "delegator", "published", "demo", "people"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for, as far as it could be verified.

    Attributes:
        draft: what is to be signed.
        old: the published version of the role, or None.
        delegators: who says by which keys it is signed.
        unsigned: the role whose draft, which nobody has signed, says whose keys count; None where a published version does.
        root: version of the root that says so; None where nothing is published yet.
        issued: when the published timestamp says that it was signed, or "" without one: what is published may have changed since.
        anchored: all that is published was verified from the person's own root, not on the request's word.
        demo: example keys are allowed; what root says, where there is one.
        people: names by key id, on the request's word.
    """

    draft: Draft
    old: Root | Targets | None
    delegators: tuple[Root | Targets, ...]
    unsigned: str | None
    root: int | None
    issued: str
    anchored: bool
    demo: bool
    people: Mapping[str, str]

    @property
    def quorum(self) -> Quorum:
        """Whose signatures are asked for; nobody's is there yet."""
        return quorum(self.draft, self.delegators)


def make_request(repository: Repository, role: str) -> bytes:
    """Return a request for signatures on the draft of a role.

    Raises:
        RequestRefused: there is no such draft, or a publication was interrupted.
        MergeRefused: its drafts, or those of who says whose keys count, do not go together.
        RepositoryRefused, StorageError: the repository.
    """
    state = repository.state()
    if role in state.clashes:
        raise state.clashes[role]
    if (draft := state.drafts.get(role)) is None:
        drafted = ", ".join(state.drafts) or "nothing"
        raise RequestRefused("request", expected=f"a role that is drafted: {drafted}", got=repr(role)[:80])
    if state.interrupted:  # what is published is then of two roots, and no reader would take it
        hint = "`hillhold publish` or `hillhold refresh` finishes it"
        raise RequestRefused("request", expected="a finished publication", got="one that was interrupted", hint=hint)
    state.quorum(role)  # refuses a role for which nobody could sign
    by = {"root": None, "targets": "root"}.get(role, "targets")
    delegator = state.drafts.get(by) if by else None
    names = [
        file_name("root", number)
        for number in range(1, (state.published_root.version if state.published_root else 0) + 1)
    ]
    if state.chain is not None:
        names += [file_name("timestamp", 0), file_name("snapshot", state.chain.snapshot.version)]
        names.append(file_name("targets", state.chain.targets.version))
        if role not in ("root", "targets") and (old := state.published(role)):
            names.append(file_name(role, old.version))
    files = {name: (published_files(repository.layout, name) or b"").decode() for name in names}
    value = {
        "hillhold": "request",
        "v": VERSION,
        "role": role,
        "sha256": draft.digest,
        "signed": draft.signed.to_dict(),
        "delegator": delegator.signed.to_dict() if delegator else None,
        "published": files,
        "demo": repository.config().demo,
        "people": repository.people(),
    }
    data = canonical.dumps(value)
    if len(data) > MAX_REQUEST:
        raise RequestRefused("request", expected=f"at most {MAX_REQUEST} bytes", got=len(data))
    return data


def open_request(data: bytes, anchor: bytes | None = None) -> Request:
    """Read a request, and verify what can be verified of it.

    Args:
        anchor: a root that the person trusts; without one, what is published stands on the request's word.

    Raises:
        RequestRefused: malformed, of another format version, or of parts that do not belong together.
        RepositoryRefused: metadata in it that is malformed.
        VerifyRefused: what it says is published does not verify.
    """
    if len(data) > MAX_REQUEST:
        raise RequestRefused("request file", expected=f"at most {MAX_REQUEST} bytes", got=len(data))
    value = opened(data, "request")
    role, signed, delegator = value.get("role"), value.get("signed"), value.get("delegator")
    if set(value) != _FIELDS or not isinstance(role, str) or not is_segment(role) or not isinstance(signed, dict):
        raise RequestRefused("request file", expected=f"the fields {', '.join(sorted(_FIELDS))}", got="others")
    new = parse_signed(signed, role)
    payload = canonical.canonical(signed)
    if sha256(payload).hexdigest() != value["sha256"]:
        raise RequestRefused("request file", expected="the sha256 of what is to be signed", got="another")
    files, people = _texts(value["published"], "published"), _people(value["people"])
    shown = _Shown(files, anchor)
    old = shown.role(role)
    if new.version != (old.version if old else 0) + 1:
        expected = f"version {old.version + 1 if old else 1}, the one after what is published"
        raise RequestRefused(f"draft of {role}", expected=expected, got=new.version)
    by = {"root": None, "targets": "root"}.get(role, "targets")
    asked: list[Root | Targets | None] = [shown.role(by)] if by else [old, new]
    if delegator is not None:
        if by is None or not isinstance(delegator, dict):
            raise RequestRefused("request file", expected="a delegator of that role", got="something else")
        asked = [parse_signed(delegator, by)]
    found = tuple(item for item in asked if item is not None)
    if not found:
        raise RequestRefused("request file", expected=f"who says by which keys {role} is signed", got="nobody")
    draft = Draft(role, new, payload, {})
    quorum(draft, found)
    demo = value["demo"] is True
    if (root := shown.role("root")) and (root.unrecognized_fields.get("x-hillhold-demo") is True) is not demo:
        raise RequestRefused("demo", expected="the same in the request and its root", got="a difference")
    unsigned = by if delegator is not None else None
    return Request(draft, old, found, unsigned, shown.number, shown.issued, anchor is not None, demo, people)


def sign_request(request: Request, signer: Signer) -> SignatureFile:
    """Sign what a request asks for.

    Raises:
        SigningRefused: the key is not asked for.
        PublicKeyMaterialRefused: an example key outside a demo.
        ToolError: the token or key service failed.
    """
    key, draft = signer.public_key, request.draft
    refuse_public(key, demo=request.demo)
    check_asked(request, key)
    return SignatureFile(draft.role, draft.signed.version, draft.digest, sign_bytes(signer, draft.payload))


def check_asked(request: Request, key: Key) -> None:
    """Refuse a key that a request does not ask for; raises `SigningRefused`, which names whose it does."""
    if key.keyid not in request.quorum.wanted:
        wanted = ", ".join(sorted({request.people.get(keyid, keyid[:16]) for keyid in request.quorum.wanted}))
        raise SigningRefused("signature", expected=f"a key of {request.draft.role}: {wanted}", got=key.keyid[:16])


class _Shown:
    """What a request says is published, verified from a root (TUF 5.3 to 5.6); nothing expires here, the person sees the dates."""

    def __init__(self, files: Mapping[str, str], anchor: bytes | None) -> None:
        self._files = {name: text.encode() for name, text in files.items()}
        self.issued = ""
        self._set: TrustedMetadataSet | None = None
        if not self._files:
            if anchor is not None:
                raise RequestRefused("request file", expected="what is published, under your root", got="nothing")
            return
        found = verify_roots(self._take, anchor)
        if found is None:
            raise VerifyRefused("1.root.json", expected="a root", got="none")
        self._set = found[0]
        self._set.reference_time = encoding.utc(0)
        if file_name("timestamp", 0) in self._files:
            self._chain(self._set)

    @property
    def number(self) -> int | None:
        """Version of the root."""
        return self._set.root.version if self._set else None

    def role(self, role: str) -> Root | Targets | None:
        """Return a published version, verified; None where there is none."""
        trusted = self._set
        if trusted is None:
            return None
        if role == "root":
            return trusted.root
        if not self.issued:
            return None
        if role == "targets":
            return trusted.targets
        meta = trusted.snapshot.meta.get(f"{role}.json")
        if meta is None:
            return None
        try:
            return trusted.update_delegated_targets(self._need(file_name(role, meta.version)), role, "targets")
        except (RepositoryError, ValueError) as error:
            raise VerifyRefused(f"{role} metadata: {error}") from error

    def _chain(self, trusted: TrustedMetadataSet) -> None:
        try:
            timestamp: Timestamp = trusted.update_timestamp(self._need(file_name("timestamp", 0)))
            snapshot = trusted.update_snapshot(self._need(file_name("snapshot", timestamp.snapshot_meta.version)))
            listed = snapshot.meta.get("targets.json")
            if listed is None:
                raise VerifyRefused("snapshot", expected="targets.json", got="none")
            trusted.update_targets(self._need(file_name("targets", listed.version)))
        except (RepositoryError, ValueError) as error:
            raise VerifyRefused(f"what the request says is published: {error}") from error
        self.issued = str(timestamp.unrecognized_fields.get("x-hillhold-issued", ""))[:40] or "an unknown time"

    def _take(self, name: str) -> bytes | None:
        data = self._files.get(name)
        role = name.removesuffix(".json").partition(".")[2] or "timestamp"
        if data is not None and len(data) > max_bytes(role):
            raise VerifyRefused(name, expected=f"at most {max_bytes(role)} bytes", got=len(data))
        return data

    def _need(self, name: str) -> bytes:
        data = self._take(name)
        if data is None:
            raise VerifyRefused("what the request says is published", expected=name, got="none")
        return data


def _texts(value: Any, what: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise RequestRefused(f"{what} in the request", expected="texts by name", got="something else")
    return value


def _people(value: Any) -> dict[str, str]:
    people = _texts(value, "people")
    if len(people) > MAX_PEOPLE or any(len(name) > 8 * MAX_PERSON for name in people.values()):
        raise RequestRefused(
            "people in the request", expected=f"at most {MAX_PEOPLE} names", got="more, or longer ones"
        )
    return people
