"""`hillhold diff`, `sign`, `request`, `attach` and `drop`: what people see, sign and decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Targets

from hillhold_signer.attaching import Attached
from hillhold_signer.attaching import attach as attach_files
from hillhold_signer.cli.remote import REPOSITORY, OnRepository, RepositoryType, service_of
from hillhold_signer.cli.terminal import FILE, PATH, emit, json_option, passphrase_option, secrets, whose
from hillhold_signer.difference import Change, difference, label, summary
from hillhold_signer.drafts import Draft
from hillhold_signer.keys import known_public, load_public, load_signer
from hillhold_signer.places import Place
from hillhold_signer.plain import plain
from hillhold_signer.repository import Repository, Signed
from hillhold_signer.requests import MAX_REQUEST, Request, check_asked, make_request, open_request, sign_request
from hillhold_signer.signatures import MAX_SIGNATURE_FILE
from hillhold_signer.state import State
from hillhold_signer.storage import read_file, write_file
from hillhold_verifier.metadata import MAX_BYTES

if TYPE_CHECKING:
    from hillhold_signer.serviceclient import Service

EITHER = RepositoryType(click.Path(exists=True, path_type=Path))

root_option = click.option("--root", type=FILE, help="The root that you trust, to verify what is published.")
full_option = click.option("--full", is_flag=True, help="Show each file, where many come or go.")


@click.command(cls=OnRepository, short_help="Show what the drafts change.")
@click.argument("repo", type=REPOSITORY)
@click.argument("role", required=False)
@root_option
@full_option
@json_option
def diff(repo: Place, role: str | None, root: Path | None, full: bool, as_json: bool) -> None:
    """Show what the drafts, or only that of ROLE, change of what is published. Nothing is written.

    \b
    Example:
      hillhold diff REPO pump
    """
    anchor = read_file(root, MAX_BYTES["root"]) if root else None
    repository = Repository(repo, anchor=anchor)
    state, people = repository.state(), repository.people()
    if role is not None:
        state.check_role(role)
    drafts = [draft for draft in state.drafts.values() if role in (None, draft.role)]
    clashes = {name: clash for name, clash in state.clashes.items() if role in (None, name)}
    found = [(draft, _changes(draft, _published(state, draft.role), people)) for draft in drafts]
    value = {
        "drafts": [_drafted(draft, changes) for draft, changes in found],
        "clashes": {name: {"error": str(clash), "hint": clash.hint} for name, clash in clashes.items()},
        "anchored": anchor is not None,
    }
    lines = [line for draft, changes in found for line in _shown(draft, changes, full=full)]
    lines += [f"! {name}: {clash}; {clash.hint}" for name, clash in clashes.items()]
    lines += _believed(repository, service_of(repo), anchored=anchor is not None) if lines else []
    emit(value, lines or [f"{role}: nothing is drafted" if role else "nothing is drafted"], as_json=as_json)


@click.command(cls=OnRepository, short_help="Sign, as one person, what asks for your key.")
@click.argument("source", type=EITHER, metavar="REPO|REQUEST")
@click.option("--key", "uri", required=True, metavar="URI", help="Your private key, such as file:ada.pem.")
@click.option("--public", type=FILE, help="Its public key, where the URI does not lead to it (HSM, KMS).")
@click.option("--role", help="Sign only this role.")
@root_option
@click.option("-o", "--output", type=PATH, help="Of a request: the signature file; by default beside it.")
@click.option("--yes", is_flag=True, help="Sign without asking.")
@full_option
@passphrase_option
@json_option
def sign(
    source: Place,
    uri: str,
    public: Path | None,
    role: str | None,
    root: Path | None,
    output: Path | None,
    yes: bool,
    full: bool,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Sign, as one person, every draft that asks for your key, after showing what changes.

    With the file of a request (`hillhold request`), sign that: no repository is needed. With --root, what is published is verified from
    that root; without it, a request or a service is believed what it says is published, and so what changes.

    \b
    Example:
      hillhold sign REPO --key file:ada.pem
      hillhold sign pump.request --key file:ada.pem --root 1.root.json
    """
    file = source if isinstance(source, Path) and not source.is_dir() else None
    if file is None and output:
        raise click.UsageError("--output belongs to a request")
    if file is not None and role:
        raise click.UsageError("--role belongs to a repository: a request is for one role")
    given = load_public(public) if public else None
    known, ask = given or known_public(uri), secrets(passphrase_fd)  # who is not asked is told so before the passphrase
    anchor = read_file(root, MAX_BYTES["root"]) if root else None
    if file is None:
        repository = Repository(source, anchor=anchor)
        repository.wanted(known, role)
        believed = _believed(repository, service_of(source), anchored=anchor is not None)
        signer = load_signer(uri, given, ask)
        _sign_drafts(repository, signer, role, believed, anchor is not None, yes=yes, full=full, as_json=as_json)
        return
    found = open_request(read_file(file, MAX_REQUEST), anchor)
    if known is not None:
        check_asked(found, known)
    _sign_request(file, found, load_signer(uri, given, ask), output, yes=yes, full=full, as_json=as_json)


@click.command(cls=OnRepository, short_help="Write a draft into a file, to be signed elsewhere.")
@click.argument("repo", type=REPOSITORY)
@click.argument("role")
@click.option("-o", "--output", type=PATH, required=True, metavar="NAME.request", help="The file to write.")
@json_option
def request(repo: Place, role: str, output: Path, as_json: bool) -> None:
    """Write the draft of ROLE into one file, for people who sign on a machine without the repository.

    \b
    Example:
      hillhold request REPO pump -o pump.request
    """
    repository = Repository(repo)
    data = make_request(repository, role)
    write_file(output, data)
    found = open_request(data)
    names = ", ".join(sorted(found.people.get(keyid, keyid[:16]) for keyid in found.quorum.wanted))
    lines = [
        f"wrote {output}: version {found.draft.signed.version} of {role}, {len(data)} bytes",
        f"  sha256 of what is signed: {found.draft.digest}",
        f"next: send it to {names}; each signs it (`hillhold sign {output.name}`), and you `hillhold attach` what comes back",
    ]
    value = {"request": str(output), "role": role, "version": found.draft.signed.version, "sha256": found.draft.digest}
    emit(value, lines, as_json=as_json)


@click.command(cls=OnRepository, short_help="Put signatures made elsewhere onto their drafts.")
@click.argument("repo", type=REPOSITORY)
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="SIGNATURE...")
@json_option
def attach(repo: Place, files: tuple[Path, ...], as_json: bool) -> None:
    """Put signatures that were made elsewhere onto their drafts: all that are given, or none.

    \b
    Example:
      hillhold attach REPO pump.ecd72832.signature
    """
    repository = Repository(repo)
    found = attach_files(repository, [read_file(file, MAX_SIGNATURE_FILE) for file in files])
    people = repository.people()
    value = {"attached": [_attached(item) for item in found]}
    emit(value, [_attached_line(item, people) for item in found], as_json=as_json)


@click.command(cls=OnRepository, short_help="Give up a draft.")
@click.argument("repo", type=REPOSITORY)
@click.argument("role")
@click.argument("digest", default="")
@click.option("--yes", is_flag=True, help="Give up signatures without asking.")
@json_option
def drop(repo: Place, role: str, digest: str, yes: bool, as_json: bool) -> None:
    """Give up the draft of ROLE, after showing it; of several, that whose sha256 begins with DIGEST (`hillhold status` shows it).

    Where two drafts do not go together, the other one stays, with its signatures. Where it is the only one, what is published stands again.

    \b
    Example:
      hillhold drop REPO pump
      hillhold drop REPO pump 1d2c3b4a59687766
    """
    repository = Repository(repo)
    draft, found = repository.droppable(role, digest)
    state, people = repository.state(), repository.people()
    _show(_shown(draft, _changes(draft, _published(state, role), people), full=False), as_json=as_json)
    if draft.signatures:
        _show([f"! the signatures of {whose(draft.signatures, people)} go with it"], as_json=as_json)
        if not yes:
            click.confirm("Drop this?", abort=True, err=as_json)
    gone = repository.drop(role, found)
    value = {"role": role, "dropped": gone, "void": sorted(draft.signatures)}
    emit(value, [f"dropped the draft {gone[:16]}… of {role}"], as_json=as_json)


def _believed(repository: Repository, service: Service | None, *, anchored: bool) -> list[str]:
    """What the person has to know of the repository itself: whose word is taken for what is published."""
    state = repository.state()
    if anchored and state.published_root is not None:
        lines = [f"  what is published was verified from your root, up to root version {state.published_root.version}"]
    elif service is not None:
        lines = [
            f"! what is published stands on the word of {service}: give --root FILE to verify it from a root that you keep"
        ]
    else:
        return []
    if state.chain is not None:
        issued = str(state.chain.timestamp.unrecognized_fields.get("x-hillhold-issued", "an unknown time"))[:40]
        lines.append(f"  what is published is that of {issued}; what came after is not known here")
    return lines


def _sign_drafts(
    repository: Repository,
    signer: Signer,
    role: str | None,
    believed: Iterable[str],
    anchored: bool,
    *,
    yes: bool,
    full: bool,
    as_json: bool,
) -> None:
    state, people = repository.state(), repository.people()
    drafts = repository.wanted(signer.public_key, role)
    for draft in drafts:
        _show(_shown(draft, _changes(draft, _published(state, draft.role), people), full=full), as_json=as_json)
    _show(believed, as_json=as_json)
    clashes = {} if role else state.clashes
    _show((f"! {name} is not among these: {clash}" for name, clash in clashes.items()), as_json=as_json)
    if not yes:
        click.confirm("Sign this?", abort=True, err=as_json)
    shown = {draft.role: draft.digest for draft in drafts}
    signed = repository.sign(signer, role, shown)
    value = {"key": signer.public_key.keyid, "signed": [_value(item) for item in signed], "anchored": anchored}
    emit(value, [_line(item) for item in signed], as_json=as_json)


def _sign_request(
    file: Path, found: Request, signer: Signer, output: Path | None, *, yes: bool, full: bool, as_json: bool
) -> None:
    draft = found.draft
    changes = _changes(draft, found.old, found.people)
    _show([*_shown(draft, changes, full=full), *_trust(found)], as_json=as_json)
    keyid = signer.public_key.keyid
    made = output or file.with_name(f"{file.name.removesuffix('.request')}.{keyid[:8]}.signature")
    if not yes:
        click.confirm("Sign this?", abort=True, err=as_json)
    signature = sign_request(found, signer)
    write_file(made, signature.data())
    value = {
        "key": keyid,
        "role": draft.role,
        "version": signature.version,
        "sha256": draft.digest,
        "signature": str(made),
    }
    lines = [
        f"signed {draft.role} version {signature.version}: {made}",
        f"next: send it back (`hillhold attach REPO {made.name}`)",
    ]
    emit({**value, "anchored": found.anchored}, lines, as_json=as_json)


def _trust(request: Request) -> list[str]:
    """What the person has to know of the request itself."""
    lines = ["  DEMO: example keys are allowed"] if request.demo else []
    if request.root is None:
        lines.append("! nothing is published yet: keys and names stand on the request's word")
    elif request.anchored:
        lines.append(f"  what is published was verified from your root, up to root version {request.root}")
    else:
        lines.append(
            "! what is published stands on the request's word: give --root FILE to verify it from a root that you keep"
        )
    if request.issued:
        lines.append(f"  what is published is that of {request.issued}; what came after is not known here")
    if request.unsigned:
        lines.append(f"! whose signatures count is drafted, too: nobody has signed that version of {request.unsigned}")
    for title, share in zip(request.quorum.titles, request.quorum.shares, strict=True):
        head = f"{title}: " if title else ""
        names = ", ".join(sorted(map(label(request.people), share.unsigned)))
        lines.append(f"  {head}{share.threshold} of these sign: {names}")
    return lines


def _changes(draft: Draft, old: Root | Targets | None, people: Mapping[str, str]) -> list[Change]:
    return difference(draft.role, old, draft.signed, label(people))


def _published(state: State, role: str) -> Root | Targets | None:
    old = state.published(role)
    return old if isinstance(old, (Root, Targets)) else None


def _shown(draft: Draft, changes: list[Change], *, full: bool) -> list[str]:
    lines = [str(change) for change in changes] if full else summary(changes)
    if draft.merged:
        lines.insert(1, "  merged from several drafts")
    return [*lines, f"  sha256 of what is signed: {draft.digest}"]


def _show(lines: Iterable[str], *, as_json: bool) -> None:
    for line in lines:
        click.echo(plain(line), err=as_json)


def _drafted(draft: Draft, changes: list[Change]) -> dict[str, object]:
    return {
        "role": draft.role,
        "version": draft.signed.version,
        "sha256": draft.digest,
        "merged": draft.merged,
        "changes": [
            {
                "mark": change.mark,
                "what": change.what,
                "name": change.name,
                "before": change.before,
                "after": change.after,
                "text": change.text,
                "decides": change.decides,
            }
            for change in changes
        ],
    }


def _value(item: Signed) -> dict[str, object]:
    return {
        "role": item.role,
        "version": item.version,
        "sha256": item.digest,
        "repeated": item.repeated,
        "complete": item.quorum.complete,
    }


def _line(item: Signed) -> str:
    if item.repeated:
        return f"{item.role} version {item.version}: this key had signed it already; nothing changed ({item.quorum})"
    return f"signed {item.role} version {item.version} ({item.quorum})"


def _attached(item: Attached) -> dict[str, object]:
    return {
        "role": item.file.role,
        "version": item.file.version,
        "sha256": item.file.sha256,
        "key": item.file.keyid,
        "repeated": item.repeated,
        "complete": item.quorum.complete,
    }


def _attached_line(item: Attached, people: Mapping[str, str]) -> str:
    done = "had been attached already" if item.repeated else "attached"
    who = people.get(item.file.keyid, item.file.keyid[:16])
    return f"{item.file.role} version {item.file.version}: signature of {who} {done} ({item.quorum})"
