"""`hillhold key`: make keys, and look at them."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, emit, json_option, passphrase_option, secrets
from hillhold_signer.examples import public_name
from hillhold_signer.keys import KINDS, KeyInfo, generate, inspect, inspect_folder, write_key


@click.group()
def key() -> None:
    """Make keys, and look at them."""


@key.command("new")
@click.argument("name", type=PATH)
@click.option("--type", "kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="Kind of key.")
@click.option(
    "--no-passphrase", is_flag=True, help="Leave the private key unencrypted, for an online key on a guarded machine."
)
@passphrase_option
@json_option
def new(name: Path, kind: str, no_passphrase: bool, passphrase_fd: int | None, as_json: bool) -> None:
    """Make a key: NAME.pem, the private part, encrypted, and NAME.pub, the public part.

    \b
    Example:
      hillhold key new ada
    """
    if no_passphrase and passphrase_fd is not None:
        raise click.UsageError("--no-passphrase and --passphrase-fd exclude each other")
    base = name.with_suffix("") if name.suffix in (".pem", ".pub") else name
    phrase: str | None = None
    if passphrase_fd is not None:
        phrase = secrets(passphrase_fd)("passphrase")
    elif not no_passphrase:
        phrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt="The same again", err=True)
    private, public = write_key(base, generate(kind), phrase)
    info = inspect(public)
    value = {**_value(info), "private_file": str(private), "public_file": str(public), "encrypted": phrase is not None}
    kept = "encrypted" if phrase is not None else "NOT encrypted"
    lines = [f"{private}  private key, {kept}: keep it", f"{public}  public key: hand it out", *_lines(info)[1:]]
    emit(value, lines, as_json=as_json)


@key.command("show")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the type, key id and fingerprint of a private or public key FILE, without its passphrase.

    \b
    Example:
      hillhold key show ada.pub
    """
    info = inspect(file)
    emit(_value(info), _lines(info), as_json=as_json)


@key.command("list")
@click.argument("folder", type=FOLDER, default=Path())
@json_option
def list_keys(folder: Path, as_json: bool) -> None:
    """List the keys in FOLDER (by default, this one).

    \b
    Example:
      hillhold key list keys/
    """
    found = inspect_folder(folder)
    lines = [
        f"{info.path.name:<32} {info.private or 'public':<12} {_kind(info):<20} {info.key.keyid[:16]}" for info in found
    ]
    emit({"keys": [_value(info) for info in found]}, lines or ["no keys here"], as_json=as_json)


def _value(info: KeyInfo) -> dict[str, object]:
    return {
        "file": str(info.path),
        "private": info.private,
        "type": info.key.keytype,
        "scheme": info.key.scheme,
        "keyid": info.key.keyid,
        "fingerprint": info.fingerprint,
        "public_on_purpose": public_name(info.key),
    }


def _lines(info: KeyInfo) -> list[str]:
    what = f"private key, {info.private}" if info.private else "public key"
    lines = [f"{info.path}: {what}"]
    lines += [f"type         {_kind(info)}", f"key id       {info.key.keyid}", f"fingerprint  {info.fingerprint}"]
    if info.public_from:
        lines.append(f"The public part was read from {info.public_from}; the private file was not opened.")
    if known := public_name(info.key):
        lines.append(f"WARNING: {known}. Everybody has its private part.")
    return lines


def _kind(info: KeyInfo) -> str:
    return info.key.scheme
