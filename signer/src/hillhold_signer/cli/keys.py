"""`hillhold key`: make keys, and look at them."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.cli.terminal import (
    FILE,
    FOLDER,
    PATH,
    emit,
    json_option,
    new_passphrase,
    passphrase_option,
    secrets,
)
from hillhold_signer.errors import KeyRefused
from hillhold_signer.examples import public_name
from hillhold_signer.hsm import SCHEME, TokenKey, find_key, list_keys
from hillhold_signer.image_keys import image_key_hash
from hillhold_signer.keyfiles import KINDS, free_names, generate, write_key
from hillhold_signer.keys import KeyInfo, fingerprint, inspect, inspect_folder, public_pem
from hillhold_signer.storage import create_file


class PlaceOf(click.ParamType[Path | str]):
    """A path, or the URI of a token."""

    def __init__(self, path: click.Path) -> None:
        self.path, self.name = path, f"{path.name} or hsm:"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Leave a URI as it is; raises `click.UsageError`."""
        if isinstance(value, str) and value.startswith(f"{SCHEME}:"):
            return value
        return Path(str(self.path.convert(str(value), param, ctx)))


@click.group()
def key() -> None:
    """Make keys, and look at them."""


@key.command("new", short_help="Make a key: NAME.pem and NAME.pub.")
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
    free_names(base)
    phrase = None if no_passphrase else new_passphrase(passphrase_fd)
    private, public = write_key(base, generate(kind), phrase)
    info = inspect(public)
    value = {**_value(info), "private_file": str(private), "public_file": str(public), "encrypted": phrase is not None}
    kept = "encrypted" if phrase is not None else "NOT encrypted"
    lines = [f"{private}  private key, {kept}: keep it", f"{public}  public key: hand it out", *_lines(info)[1:]]
    emit(value, lines, as_json=as_json)


@key.command("import", short_help="Write the public part of a key in a token.")
@click.argument("uri")
@click.argument("name", type=PATH)
@passphrase_option
@json_option
def import_key(uri: str, name: Path, passphrase_fd: int | None, as_json: bool) -> None:
    """Write NAME.pub, the public part of a key in a token, for a ceremony file or `--public`.

    The token is asked for its PIN only if it does not show the public key without.

    \b
    Example:
      hillhold key import "hsm:1?label=ada" ada
    """
    if not uri.startswith(f"{SCHEME}:"):
        hint = "of a cloud's key, save the public key in PEM with the cloud's own tool"
        raise KeyRefused("key to import", expected=f"{SCHEME}:ID?label=TOKEN", got=repr(uri)[:80], hint=hint)
    public = name if name.suffix == ".pub" else name.with_name(name.name + ".pub")
    found = find_key(uri, secrets(passphrase_fd))
    create_file(public, public_pem(found.key), mode=0o644)
    lines = [f"{public}  public key of {found.uri}: hand it out", *_lines(found)[1:]]
    emit({**_value(found), "public_file": str(public)}, lines, as_json=as_json)


@key.command("show", short_help="Show the type and fingerprint of a key.")
@click.argument("place", metavar="FILE|URI", type=PlaceOf(FILE))
@passphrase_option
@json_option
def show(place: Path | str, passphrase_fd: int | None, as_json: bool) -> None:
    """Show the type, key id and fingerprint of a private or public key FILE, without its passphrase, or of a key in a token.

    \b
    Example:
      hillhold key show ada.pub
      hillhold key show "hsm:1?label=ada"
    """
    info = find_key(place, secrets(passphrase_fd)) if isinstance(place, str) else inspect(place)
    emit(_value(info), _lines(info), as_json=as_json)


@key.command("list", short_help="List the keys in a folder or a token.")
@click.argument("place", metavar="[FOLDER|URI]", type=PlaceOf(FOLDER), default=".")
@json_option
def list_(place: Path | str, as_json: bool) -> None:
    """List the keys in FOLDER (by default, this one), or those that a token shows without its PIN.

    \b
    Example:
      hillhold key list keys/
      hillhold key list "hsm:?label=ada"
    """
    found: list[KeyInfo] | list[TokenKey] = list_keys(place) if isinstance(place, str) else inspect_folder(place)
    lines = [f"{_name(info):<32} {_sort(info):<12} {info.key.scheme:<20} {info.key.keyid[:16]}" for info in found]
    emit({"keys": [_value(info) for info in found]}, lines or ["no keys here"], as_json=as_json)


def _value(info: KeyInfo | TokenKey) -> dict[str, object]:
    where = {"uri": info.uri} if isinstance(info, TokenKey) else {"file": str(info.path), "private": info.private}
    return {
        **where,
        "type": info.key.keytype,
        "scheme": info.key.scheme,
        "keyid": info.key.keyid,
        "fingerprint": fingerprint(info.key),
        "image_key_hash": image_key_hash(info.key),
        "public_on_purpose": public_name(info.key),
    }


def _lines(info: KeyInfo | TokenKey) -> list[str]:
    if isinstance(info, TokenKey):
        lines = [f"{info.uri}: key in a token"]
    else:
        lines = [f"{info.path}: " + (f"private key, {info.private}" if info.private else "public key")]
    keyid, mark = info.key.keyid, fingerprint(info.key)
    lines += [f"type         {info.key.scheme}", f"key id       {keyid}", f"fingerprint  {mark}"]
    if (named := image_key_hash(info.key)) not in (None, mark):
        lines.append(f"image key    {named}: its name in an MCUboot image")
    if isinstance(info, KeyInfo) and info.public_from:
        lines.append(f"The public part was read from {info.public_from}; the private file was not opened.")
    if known := public_name(info.key):
        lines.append(f"WARNING: {known}. Everybody has its private part.")
    return lines


def _name(info: KeyInfo | TokenKey) -> str:
    return info.uri if isinstance(info, TokenKey) else info.path.name


def _sort(info: KeyInfo | TokenKey) -> str:
    return "in a token" if isinstance(info, TokenKey) else info.private or "public"
