"""A repository directory: drafts that people sign, and what is published.

    Repository.create(path, ceremony, now) -> sign … -> publish          the first root and targets
    .add_product(product, now)             -> sign by the targets' quorum
    .add_release(product, image, wish, now) -> sign by the line's quorum -> publish

Every method that writes holds the repository's lock while it reads, decides and writes. `now` is Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import Role, Root, TargetFile, Targets

from hillhold_signer import encoding
from hillhold_signer.ceremony import Ceremony, NamedKey
from hillhold_signer.config import MAX_CONFIG, Config, parse_config, parse_people, show_config, show_people
from hillhold_signer.drafts import Draft, Drafts, Quorum
from hillhold_signer.errors import (
    ProductRefused,
    QuorumRefused,
    RepositoryRefused,
    SigningRefused,
    StorageError,
    ToolError,
)
from hillhold_signer.examples import refuse_public
from hillhold_signer.layout import Layout
from hillhold_signer.patching import make_patches
from hillhold_signer.products import Product, caps_of, copied, with_hardware, with_line
from hillhold_signer.publish import OnlineSigners, Publication, compose, renew
from hillhold_signer.releases import MAX_IMAGE, Wish, plan, releases_of, same_place
from hillhold_signer.state import State, read_state
from hillhold_signer.storage import list_folder, locked, read_file, read_optional, remove_file, write_file
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.release import DEFAULT_COMPONENT, Release

S = TypeVar("S", Root, Targets)


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_release` put into a line's draft: the image and its patches."""

    target: TargetFile
    patches: tuple[TargetFile, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Signed:
    """One draft after a signature: `repeated` where this key had signed these bytes before."""

    role: str
    version: int
    digest: str
    repeated: bool
    quorum: Quorum


class Repository:
    """One repository directory; holds no state but its path."""

    def __init__(self, path: Path) -> None:
        """Open a repository.

        Raises:
            RepositoryRefused: `path` is not one.
        """
        self.layout = Layout(path)
        if not self.layout.config.is_file():
            hint = "make one with `hillhold init`"
            raise RepositoryRefused(f"{path}", expected="a Hillhold repository", got="no hillhold.toml", hint=hint)

    @classmethod
    def create(cls, path: Path, ceremony: Ceremony, now: int, *, demo: bool = False) -> Repository:
        """Make a repository with drafts of root and targets, version 1 of each. Nothing is published.

        Raises:
            CeremonyRefused, PublicKeyMaterialRefused: the ceremony.
            RepositoryRefused: there is one already.
            StorageError: the directory cannot be written.
        """
        ceremony.check(demo=demo)
        layout = Layout(path)
        if layout.config.exists():
            raise RepositoryRefused(f"{path}", expected="no repository yet", got="one that exists")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {path}: {error.strerror or error}") from error
        with locked(layout.lock):
            root, targets = _first(ceremony, now, demo=demo)
            drafts = Drafts(layout)
            drafts.save("root", root)
            drafts.save("targets", targets)
            people = {ceremony.snapshot.key.keyid: "online", ceremony.timestamp.key.keyid: "online"}
            people |= {item.key.keyid: item.name for team in (ceremony.root, ceremony.targets) for item in team.keys}
            write_file(layout.people, show_people(people))
            config = Config(demo, ceremony.expiry, ceremony.snapshot.uri, ceremony.timestamp.uri)
            write_file(layout.config, show_config(config))  # last: its presence makes this a repository
        return cls(path)

    def config(self) -> Config:
        """Return the settings; raises `ConfigRefused`, `StorageError`."""
        return parse_config(read_file(self.layout.config, MAX_CONFIG))

    def people(self) -> dict[str, str]:
        """Return names by key id; raises `ConfigRefused`, `StorageError`."""
        return parse_people(read_optional(self.layout.people, MAX_CONFIG) or b"")

    def state(self) -> State:
        """Read and verify what the repository holds; raises `RepositoryRefused`, `StorageError`."""
        return read_state(self.layout)

    def add_product(self, product: Product, now: int) -> None:
        """Draft a new product line: its delegation in targets, and the first, empty version of its role.

        Raises:
            ProductRefused, CeremonyRefused, PublicKeyMaterialRefused: the product.
        """
        with self._writing() as state:
            config = self.config()
            product.check(demo=config.demo)
            targets = with_line(self._next(state, "targets", state.targets(), now), product)
            grace = product.caps.max_offline_grace
            extra = {"x-hillhold-offline-grace": grace} if grace else {}
            line = Targets(version=1, expires=encoding.utc(now + config.expiry.lines), unrecognized_fields=extra)
            if self.layout.metadata(f"1.{product.name}.json").exists():
                raise ProductRefused(
                    f"product line {product.name}", expected="a new name", got="one that was published"
                )
            drafts = Drafts(self.layout)
            self._remember(product.team.keys)
            drafts.save(product.name, line)
            drafts.save("targets", targets)

    def add_hardware(self, product: str, hardware: Sequence[str], now: int) -> None:
        """Draft targets in which a line may name more hardware; raises `ProductRefused`."""
        with self._writing() as state:
            targets = self._next(state, "targets", state.targets(), now)
            Drafts(self.layout).save("targets", with_hardware(targets, product, hardware))

    def add_release(self, product: str, image: bytes, wish: Wish, now: int, *, patches: bool = True) -> Added:
        """Draft a line's role with one more release, and patches to it from earlier ones.

        Args:
            image: the whole file, as imgtool signed it.
            patches: whether to make any.

        Raises:
            ProductRefused: no such line.
            ReleaseRefused: the release.
        """
        with self._writing() as state:
            line = self._next(state, product, state.line(product), now)
            target = plan(product, caps_of(state.targets(), product), line, image, wish)
            custom = target.custom["hillhold"]
            component = custom.get("component", DEFAULT_COMPONENT)
            bases = same_place(releases_of(line), custom["hardware"], component) if patches else []
            made = make_patches(target, image, bases, self._read_release)
            for entry, data in ((target, image), *made):
                line.targets[entry.path] = entry
                write_file(self.layout.staged / entry.hashes["sha256"], data)
            Drafts(self.layout).save(product, line)
        return Added(target, tuple(entry for entry, _ in made), line.version)

    def wanted(self, key: Key, role: str | None = None) -> tuple[Draft, ...]:
        """Return the drafts that a key may sign.

        Raises:
            SigningRefused: none, or not the named role's.
        """
        state = self.state()
        drafts = (draft for draft in state.drafts.values() if role in (None, draft.role))
        found = tuple(draft for draft in drafts if key.keyid in state.quorum(draft.role).wanted)
        if not found:
            what = f"a key of {role}" if role else "a key that a draft wants"
            hint = "`hillhold status` says who has to sign what"
            raise SigningRefused("signature", expected=what, got=key.keyid[:16], hint=hint)
        return found

    def sign(
        self, signer: Signer, role: str | None = None, shown: Mapping[str, str] | None = None
    ) -> tuple[Signed, ...]:
        """Sign, as one person, every draft for which the key is wanted, or the named role's.

        Args:
            shown: digests by role of what the person was shown; anything else is refused.

        Raises:
            SigningRefused: no draft wants this key, or a draft has changed since it was shown.
            PublicKeyMaterialRefused: an example key outside a demo.
        """
        key = signer.public_key
        refuse_public(key, demo=self.config().demo)
        found = []
        with self._writing():
            drafts = Drafts(self.layout)
            for draft in self.wanted(key, role):
                if shown is not None and shown.get(draft.role) != draft.digest:
                    raise SigningRefused(f"draft of {draft.role}", expected="what was shown", got="one changed since")
                repeated = key.keyid in draft.signatures
                if not repeated:
                    drafts.add_signature(draft, _sign(signer, draft.payload), key)
                quorum = self.state().quorum(draft.role)
                found.append(Signed(draft.role, draft.signed.version, draft.digest, repeated, quorum))
        return tuple(found)

    def publish(self, signers: OnlineSigners, now: int, roles: Sequence[str] = ()) -> Publication:
        """Publish drafts that have their quorum.

        Args:
            roles: these only; by default all, and each must be complete.

        Returns:
            What was written; without any roles where there was nothing to publish.

        Raises:
            QuorumRefused: a draft lacks signatures, which the message names.
            RepositoryRefused, SigningRefused: see `compose`.
        """
        with self._writing() as state:
            self._check_quorums(state, tuple(roles) or tuple(state.drafts))
            chosen = tuple(role for role in state.drafts if not roles or role in roles)
            config = self.config()
            if not chosen:
                return Publication((), {})
            publication = compose(self.layout, state, chosen, signers, config.expiry, now, demo=config.demo)
            self._write(publication)
            for role in chosen:
                Drafts(self.layout).discard(role)
            self._clear_staged()
        return publication

    def check_quorums(self, roles: Sequence[str] = ()) -> None:
        """Refuse what `publish` would refuse for lack of signatures, before any key is opened; raises `QuorumRefused`."""
        state = self.state()
        self._check_quorums(state, tuple(roles) or tuple(state.drafts))

    def refresh(self, signers: OnlineSigners, now: int) -> Publication:
        """Sign the timestamp anew, and snapshot when half of its life is over; raises as `renew` does."""
        with self._writing() as state:
            publication = renew(self.layout, state, signers, self.config().expiry, now)
            self._write(publication)
        return publication

    @contextmanager
    def _writing(self) -> Iterator[State]:
        """Hold the lock, and finish what an interrupted publication left."""
        with locked(self.layout.lock):
            state = self.state()
            for role in state.stale:
                Drafts(self.layout).discard(role)
            yield state

    def _next(self, state: State, role: str, newest: S, now: int) -> S:
        """Return a copy of the draft of a role, or of its published version with the next number, dated anew."""
        new = copied(newest)
        if role not in state.drafts:
            new.version += 1
        new.expires = encoding.utc(now + self.config().expiry.of(role))
        return new

    def _remember(self, keys: Sequence[NamedKey]) -> None:
        people = {**{item.key.keyid: item.name for item in keys}, **self.people()}
        write_file(self.layout.people, show_people(people))

    def _read_release(self, release: Release) -> bytes:
        digest = release.sha256.hex()
        published = read_optional(self.layout.target(release.path, digest), MAX_IMAGE)
        data = published or read_optional(self.layout.staged / digest, MAX_IMAGE) or b""
        if sha256(data).hexdigest() != digest:
            raise RepositoryRefused(f"target {release.path}", expected="its bytes", got="others" if data else "none")
        return data

    def _check_quorums(self, state: State, roles: Sequence[str]) -> None:
        names = self.people()
        short = []
        for role in roles:
            if role not in state.drafts:
                raise QuorumRefused(f"draft of {role}", expected="one to publish", got="none")
            quorum = state.quorum(role)
            if not quorum.complete:
                people = ", ".join(sorted(names.get(keyid, keyid[:16]) for keyid in quorum.missing))
                short.append(f"{role} has {quorum}, can be signed by {people}")
        if short:
            hint = "each signs with `hillhold sign`; to publish only what is complete, name it with --role"
            raise QuorumRefused(f"signatures are missing: {'; '.join(short)}", hint=hint)

    def _write(self, publication: Publication) -> None:
        for path, data in publication.files:
            write_file(path, data)

    def _clear_staged(self) -> None:
        state = self.state()
        lines = [draft.signed for draft in state.drafts.values() if isinstance(draft.signed, Targets)]
        keep = {target.hashes["sha256"] for line in lines for target in line.targets.values()}
        for name in list_folder(self.layout.staged):
            if name not in keep:
                remove_file(self.layout.staged / name)


def _first(ceremony: Ceremony, now: int, *, demo: bool) -> tuple[Root, Targets]:
    """The drafts that `create` starts with."""
    teams = {
        "root": ([item.key for item in ceremony.root.keys], ceremony.root.threshold),
        "targets": ([item.key for item in ceremony.targets.keys], ceremony.targets.threshold),
        "snapshot": ([ceremony.snapshot.key], 1),
        "timestamp": ([ceremony.timestamp.key], 1),
    }
    root = Root(
        version=1,
        expires=encoding.utc(now + ceremony.expiry.root),
        keys={key.keyid: key for keys, _ in teams.values() for key in keys},
        roles={name: Role(sorted(key.keyid for key in keys), count) for name, (keys, count) in teams.items()},
        consistent_snapshot=True,
        unrecognized_fields={"x-hillhold-demo": True} if demo else {},
    )
    return root, Targets(version=1, expires=encoding.utc(now + ceremony.expiry.targets))


def _sign(signer: Signer, payload: bytes) -> Signature:
    try:
        return signer.sign(payload)
    except HillholdError:
        raise
    except Exception as error:  # securesystemslib: a signer may raise anything
        raise ToolError(f"the key could not sign: {error}", hint="nothing was signed; run the command again") from error
