"""`hillhold product image-key`: the keys that a line's bootloaders hold."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.cli.remote import REPOSITORY, OnRepository
from hillhold_signer.cli.terminal import FILE, edge, emit, json_option
from hillhold_signer.image_keys import add_image_keys, image_keys, remove_image_key
from hillhold_signer.keys import load_public
from hillhold_signer.places import Place
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import revoked_image_keys


@click.command("image-key", cls=OnRepository, short_help="Name the bootloader keys of a line.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.argument("keys", nargs=-1, type=FILE, metavar="[PUB]...")
@click.option("--remove", metavar="FINGERPRINT", help="Forget the key whose fingerprint starts like this.")
@json_option
def image_key(repo: Place, name: str, keys: tuple[Path, ...], remove: str | None, as_json: bool) -> None:
    """Name the bootloader keys of the line NAME; `hillhold add` then refuses an image that none of them signed.

    Without PUB, show them. They are noted in REPO and not signed: it is the bootloader that decides.
    `hillhold root revoke-image-key` tells bootloaders to drop one.

    \b
    Example:
      hillhold product image-key REPO pump image.pub
    """
    repository = Repository(repo)
    if keys and remove:
        raise click.UsageError("PUB and --remove do not go together")
    if remove is not None:
        found = remove_image_key(repository, name, remove, edge().now())
    elif keys:
        found = add_image_keys(repository, name, [load_public(path) for path in keys], edge().now())
    else:
        repository.state().line(name)
        found = tuple(key.fingerprint.hex() for key in image_keys(repository.layout, name))
    gone = revoked_image_keys(repository.layout, repository.state())
    revoked = [key.fingerprint.hex() for key in image_keys(repository.layout, name) if key.key_hash.hex() in gone]
    shown = [f"  {item}, revoked" if item in revoked else f"  {item}" for item in found]
    lines = [f"image keys of {name}:", *shown] if found else [f"no image keys of {name}"]
    emit({"product": name, "image_keys": list(found), "revoked": revoked}, lines, as_json=as_json)
