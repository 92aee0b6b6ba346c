"""`--service URL`: the same commands on the repository of a signing service, over HTTPS (`hillhold_signer.remote`).

REPO goes away then, or is the URL itself. HILLHOLD_SERVICE does the same as `--service`; a command whose only argument is REPO, and gets
one, works on that all the same. The token is in HILLHOLD_TOKEN, in the file of `--token-file`, or in `tokens/HOST` beside the person's file
of options; never on the command line, which others on this computer can see. HILLHOLD_CA is a file of certificates (PEM) that vouch for the
service, HILLHOLD_CERTIFICATE one with the person's own certificate and its key, for mutual TLS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from hillhold_signer.cli.shell import options_file
from hillhold_signer.cli.terminal import FILE, FOLDER, not_there
from hillhold_signer.errors import ConfigRefused
from hillhold_signer.places import Entry, Place
from hillhold_signer.storage import read_file, read_optional

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    # The HTTP client takes a while to be imported, which a command on a folder need not.
    from hillhold_signer.serviceclient import Report, Service

MAX_TOKEN: Final = 20_000
"""Bytes of a file with a token."""

_FILE: Final = "hillhold.token-file"
"""By command, what to do where it knows no service."""


def token_file_option(text: str) -> Callable[[Any], Any]:
    """Add --token-file, which types of arguments look at."""
    return click.option("--token-file", type=FILE, is_eager=True, expose_value=False, callback=_note_token, help=text)


class OnRepository(click.Command):
    """A command whose first argument is a repository, in a folder or behind a service."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the options that say which service, and who asks."""
        super().__init__(*args, **kwargs)
        more = (
            click.Option(
                ["--service"],
                metavar="URL",
                envvar="HILLHOLD_SERVICE",
                expose_value=False,
                help="Work on a signing service, instead of REPO.",
            ),
            click.Option(
                ["--token-file"],
                type=FILE,
                is_eager=True,
                expose_value=False,
                callback=_note_token,
                help="With a service: a file with your token, instead of HILLHOLD_TOKEN.",
            ),
        )
        at = next((place for place, param in enumerate(self.params) if param.name == "as_json"), len(self.params))
        self.params[at:at] = more

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the service's URL where REPO is looked for."""
        url, named = self._service(ctx, args)
        try:
            return super().parse_args(ctx, args if url is None else [url, *args])
        except click.UsageError as error:
            if url is None or named:
                raise
            why = f"{error.format_message()} (HILLHOLD_SERVICE or your file of options names {url}: REPO is not given then)"
            raise click.UsageError(why, error.ctx) from error

    def _service(self, ctx: click.Context, args: list[str]) -> tuple[str | None, bool]:
        """The service that is meant, if one is, and whether the command line names it."""
        option = next(param for param in self.params if param.name == "service")
        arguments = [param for param in self.params if isinstance(param, click.Argument)]
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        url, source = option.consume_value(ctx, given)
        named = source is click.core.ParameterSource.COMMANDLINE
        if not isinstance(url, str) or not url:
            return None, named
        if not named and len(arguments) == 1 and isinstance(given.get(str(arguments[0].name)), str):
            return None, named
        if not _is_url(url):
            raise click.BadParameter(f"{url!r} is no URL such as https://firmware.example.com", ctx, option)
        return url, named


class RepositoryType(click.ParamType[Place]):
    """A repository: a folder, or the URL of a service.

    Args:
        path: what else it may be.
    """

    name = "repository"

    def __init__(self, path: click.Path) -> None:
        self._path = path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Return the place; raises `click.UsageError`, and `ConfigRefused` for a token or certificate."""
        if not isinstance(value, str) or not _is_url(value):
            return value if isinstance(value, Entry) else Path(os.fsdecode(self._path.convert(value, param, ctx)))
        from hillhold_signer.remote import RemoteStore
        from hillhold_signer.serviceurl import check_url

        try:
            check_url(value)
        except ConfigRefused as error:
            self.fail(f"{error}", param, ctx)
        if ctx is not None and ctx.resilient_parsing:  # a shell that completes needs no token
            return Path(value)
        service = open_service(value, noted_token(ctx))
        if ctx is not None:
            ctx.call_on_close(service.close)
        return Entry(RemoteStore(service, _Progress(ctx).begin))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete as a path."""
        return self._path.shell_complete(ctx, param, incomplete)


class HereType(click.Path):
    """A folder, for a command that knows no service, and says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; raises `click.UsageError`."""
        if isinstance(value, str) and _is_url(value):
            self.fail(not_there(ctx), param, ctx)
        return super().convert(value, param, ctx)


REPOSITORY: Final = RepositoryType(FOLDER)
HERE: Final = HereType(exists=True, file_okay=False, path_type=Path)


def service_of(repo: Place) -> Service | None:
    """Return the service behind a place; None for a folder."""
    if isinstance(repo, Path):
        return None
    from hillhold_signer.remote import RemoteStore

    return repo.store.service if isinstance(repo.store, RemoteStore) else None


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _note_token(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    ctx.meta[_FILE] = value


def noted_token(ctx: click.Context | None) -> Path | None:
    """Return the file that `token_file_option` was given."""
    found: Path | None = ctx.meta.get(_FILE) if ctx is not None else None
    return found


def log_access(url: str, token_file: Path | None) -> tuple[str | None, Path | None]:
    """Return the token and the CA file for a log that may be a service's; raises `ConfigRefused`, `StorageError`.

    HILLHOLD_TOKEN is for the service that HILLHOLD_SERVICE names, and for no other server.
    """
    from hillhold_signer.serviceurl import check_token, is_safe_url

    authority = os.environ.get("HILLHOLD_CA")
    token: str | None = None
    if is_safe_url(url):  # no token in the clear; whoever wrote one into the URL has decided
        named = os.environ.get("HILLHOLD_SERVICE") or ""
        token = _token(url, token_file, given=_site(named) == _site(url))
    elif token_file is not None:
        raise ConfigRefused("--token-file", expected="https://, or http:// on this computer", got="another URL")
    return None if token is None else check_token(token), Path(authority) if authority else None


def open_service(url: str, token_file: Path | None) -> Service:
    """Return a service, asked with the person's token and certificates; raises `ConfigRefused`, `StorageError`."""
    from hillhold_signer.serviceclient import Service

    authority, certificate = os.environ.get("HILLHOLD_CA"), os.environ.get("HILLHOLD_CERTIFICATE")
    return Service(
        url,
        _token(url, token_file),
        authority=Path(authority) if authority else None,
        certificate=(Path(certificate), None) if certificate else None,
    )


def _site(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _token(url: str, file: Path | None, *, given: bool = True) -> str | None:
    """The person's token for a service; `given`: HILLHOLD_TOKEN is for it. Raises `ConfigRefused`, `StorageError`."""
    if file is not None:
        return _line(read_file(file, MAX_TOKEN), file)
    if given and (token := os.environ.get("HILLHOLD_TOKEN")):
        return token.strip()
    parts = urlsplit(url)
    host = f"{parts.hostname}{f'_{parts.port}' if parts.port else ''}".replace(":", "_")
    kept = options_file().with_name("tokens") / host
    data = read_optional(kept, MAX_TOKEN)
    return None if data is None else _line(data, kept)


def _line(data: bytes, file: Path) -> str:
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigRefused(f"{file}", expected="a token", got="something else") from None


class _Progress:
    """A bar on standard error for each file that takes more than one piece, where that is a terminal."""

    def __init__(self, ctx: click.Context | None) -> None:
        self._stack = ExitStack()
        if ctx is not None:
            ctx.call_on_close(self._stack.close)

    def begin(self, digest: str) -> Report:
        """Begin with a file."""
        self._stack.close()
        bars: list[ProgressBar[int]] = []

        def report(done: int, total: int) -> None:
            if not bars and (done == total or not sys.stderr.isatty()):
                return
            if not bars:
                label = f"upload {digest[:16]}"
                bar = click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True)
                bars.append(self._stack.enter_context(bar))
            bars[0].update(done - bars[0].pos)

        return report
