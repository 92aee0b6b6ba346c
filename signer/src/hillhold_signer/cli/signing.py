"""`hillhold sign`: one person, one key, what it is asked for."""

from __future__ import annotations

from pathlib import Path

import click
from tuf.api.metadata import Root, Targets

from hillhold_signer.cli.terminal import FILE, FOLDER, emit, json_option, passphrase_option, plain, secrets
from hillhold_signer.difference import difference, label
from hillhold_signer.drafts import Draft
from hillhold_signer.keys import load_public, load_signer
from hillhold_signer.repository import Repository, Signed
from hillhold_signer.state import State


@click.command()
@click.argument("repo", type=FOLDER)
@click.option("--key", "uri", required=True, metavar="URI", help="Your private key, such as file:ada.pem.")
@click.option("--public", type=FILE, help="Its public key, where the URI does not lead to it (HSM, KMS).")
@click.option("--role", help="Sign only this role.")
@click.option("--yes", is_flag=True, help="Sign without asking.")
@passphrase_option
@json_option
def sign(
    repo: Path, uri: str, public: Path | None, role: str | None, yes: bool, passphrase_fd: int | None, as_json: bool
) -> None:
    """Sign, as one person, every draft that asks for your key, after showing what changes.

    \b
    Example:
      hillhold sign REPO --key file:ada.pem
    """
    repository = Repository(repo)
    signer = load_signer(uri, load_public(public) if public else None, secrets(passphrase_fd))
    state = repository.state()
    drafts = repository.wanted(signer.public_key, role)
    for draft in drafts:
        for line in _preview(repository, draft, state):
            click.echo(plain(line), err=as_json)
    if not yes:
        click.confirm("Sign this?", abort=True, err=as_json)
    shown = {draft.role: draft.digest for draft in drafts}
    signed = repository.sign(signer, role, shown)
    value = {"key": signer.public_key.keyid, "signed": [_value(item) for item in signed]}
    emit(value, [_line(item) for item in signed], as_json=as_json)


def _preview(repository: Repository, draft: Draft, state: State) -> list[str]:
    old = state.published(draft.role)
    before = old if isinstance(old, (Root, Targets)) else None
    return [
        *difference(draft.role, before, draft.signed, label(repository.people())),
        f"  sha256 of what is signed: {draft.digest}",
    ]


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
