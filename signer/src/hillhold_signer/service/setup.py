"""Making a service: its tables, its repository (new, or the one of a folder), the key of its log, and the first administrator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from hillhold_signer.ceremony import Ceremony
from hillhold_signer.errors import ConfigRefused, RepositoryRefused
from hillhold_signer.keyfiles import free_names, generate, write_key
from hillhold_signer.keys import SCHEME, load_signer
from hillhold_signer.layout import FolderLayout, Layout, file_name
from hillhold_signer.log.events import Kind
from hillhold_signer.log.note import MAX_NOTE, NoteSigner, is_name, note_signer
from hillhold_signer.places import Entry
from hillhold_signer.repository import Repository
from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.journal import KEPT, start_log
from hillhold_signer.service.registry import OPERATOR
from hillhold_signer.service.settings import FILE, Settings
from hillhold_signer.service.unit import Data, Unit
from hillhold_signer.service.uploads import receive
from hillhold_signer.storage import (
    digest_of,
    list_folder,
    make_folder,
    open_file,
    read_file,
    walk_folder,
    write_file,
)
from hillhold_verifier.errors import MisuseError

MAX_FILE: Final = 64 * 1024 * 1024
CHUNK: Final = 1024 * 1024


def write_settings(folder: Path, database: str | None, objects: str | None) -> None:
    """Write the settings of a new service; raises `ConfigRefused` where others are there, `StorageError`."""
    if not folder.exists():
        make_folder(folder)
        folder.chmod(0o700)  # drafts, and the names of people, are in it
    lines = [f"{name} = {_quoted(value)}" for name, value in (("database", database), ("objects", objects)) if value]
    data = "".join(f"{line}\n" for line in lines).encode()
    path = folder / FILE
    if path.exists():
        if data and read_file(path, MAX_FILE) != data:
            raise ConfigRefused(f"{path}", expected="no settings yet", got="others", hint="edit them there")
        return
    write_file(
        path,
        data
        or b"# database, objects, max_upload, keep, proxies, url, renew, [options], [tls], [[issuer]]: docs/SERVICE.md\n",
    )


def check_new(settings: Settings, data: Data, origin: str, administrator: str) -> None:
    """Refuse what would be refused half-way through making a service; writes nothing.

    Raises:
        AccountRefused: a name that is none.
        ConfigRefused: a name of the log that is none; a folder, or an object store, that has a service.
        RepositoryRefused: the database has a repository.
        StorageError: database or object store fail.
    """
    accounts.check_name(administrator)
    _check_origin(origin)
    if settings.log_key.exists():
        hint = f"`hillhold serve {settings.folder}` runs it"
        raise ConfigRefused(f"{settings.folder}", expected="no service yet", got="one that exists", hint=hint)
    if data.objects.read(KEPT, MAX_NOTE) is not None:
        hint = "each service has a bucket, or a prefix in one, of its own"
        raise ConfigRefused("object store", expected="one without a service", got=f"one with {KEPT}", hint=hint)
    with data.reading() as unit:
        if unit.store.list(""):
            hint = "each service has a database of its own; one that was half made is to be dropped"
            raise RepositoryRefused(f"{data.database}", expected="no repository yet", got="one that exists", hint=hint)


def make_log_key(settings: Settings, origin: str) -> NoteSigner:
    """Make the key of the log; raises `ConfigRefused` for its name, `KeyRefused` where there is one, `StorageError`."""
    _check_origin(origin)
    name = settings.log_key.with_suffix("")
    free_names(name)
    write_file(name.with_suffix(".origin"), f"{origin}\n".encode())
    private, _ = write_key(name, generate("ed25519"), None)
    return note_signer(origin, load_signer(f"{SCHEME}:{private}"))


def create_repository(data: Data, ceremony: Ceremony, *, demo: bool) -> None:
    """Make a repository with drafts of root and targets; raises as `Repository.create`."""
    with data.writing() as unit:
        Repository.create(Entry(unit.store), ceremony, unit.now, demo=demo)
        _note_begin(unit)


def copy_repository(data: Data, folder: Path) -> None:
    """Take over the repository of a folder, with all that is published and drafted; the folder stays as it is.

    Raises:
        RepositoryRefused: `folder` is no repository, or is damaged; or the service has one.
        StorageError: it cannot be read, or database or object store fail.
    """
    source = Repository(folder)
    source.state()
    here = source.folder
    for place in _target_files(here):
        found = digest_of(place)
        if found is None:
            raise RepositoryRefused(f"{place}", expected="a file", got="none any more")
        with open_file(place) as file:
            receive(data.database, data.objects, found[1], found[0], iter(lambda: file.read(CHUNK), b""))
    with data.writing() as unit:
        if unit.store.list(""):
            raise RepositoryRefused("service", expected="no repository yet", got="one that exists")
        for name in _names(here):
            unit.store.write(name, read_file(here.path / name, MAX_FILE))
        _note_begin(unit)
        there: Layout = unit.repository.layout
        if unit.repository.state().version("root") != source.state().version("root"):
            raise RepositoryRefused(f"{there.path}", expected="what the folder holds", got="something else")


def begin_log(data: Data, signer: NoteSigner) -> None:
    """Make the log; raises `LogRefused` where there is one, `StorageError`."""
    start_log(data, [signer])


def first_administrator(data: Data, name: str, random: Callable[[int], bytes]) -> str:
    """Make a person's account that may do all; returns its token, which nobody can show again.

    Args:
        random: returns so many random bytes.

    Raises:
        AccountRefused: a name that is taken, or none.
        StorageError: the database.
    """
    with data.writing() as unit:
        for change in (
            accounts.create(unit.connection, name, machine=False, now=unit.now),
            *(accounts.grant(unit.connection, name, role, EVERY) for role in (Role.ADMINISTRATOR, Role.AUDITOR)),
        ):
            unit.record(Kind.CONFIGURATION, OPERATOR, **change.fields)
        issued = tokens.issue(unit.connection, None, name, label="first administrator", now=unit.now, random=random)
        unit.record(Kind.CONFIGURATION, OPERATOR, **issued.change.fields)
    return issued.text


def _check_origin(origin: str) -> None:
    if not is_name(origin):
        hint = "a URL without its scheme that is yours, such as sign.example.org/log"
        raise ConfigRefused("name of the log", expected="a name without spaces and +", got=repr(origin)[:80], hint=hint)


def _note_begin(unit: Unit) -> None:
    config = unit.store.read("hillhold.toml", MAX_FILE)
    if config is None:
        raise MisuseError("hillhold.toml: expected one that was just written, got none")
    unit.record(Kind.CONFIGURATION, OPERATOR, what="repository", sha256=sha256(config).hexdigest())


def _names(here: FolderLayout) -> Iterator[str]:
    """The files of a repository, in an order in which its published tree could have been written."""
    for folder in (here.people, here.revoked, here.path / "image-keys", here.drafts, here.staged):
        yield from sorted(item.relative_to(here.path).as_posix() for item in walk_folder(folder))
    yield from sorted(item.relative_to(here.path).as_posix() for item in here.target_files())
    last = file_name("timestamp", 0)
    names = [name for name in list_folder(here.public / "metadata") if name != last]
    yield from (f"public/metadata/{name}" for name in names)
    if (here.public / "metadata" / last).exists():
        yield f"public/metadata/{last}"
    yield here.config.name


def _target_files(here: FolderLayout) -> Iterator[Path]:
    yield from walk_folder(here.staged)
    yield from here.target_files()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
