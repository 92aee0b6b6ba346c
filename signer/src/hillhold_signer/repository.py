"""A repository directory: drafts that people sign, and what is published.

    Repository.create(path, ceremony, now)           -> sign … -> publish          the first root and targets
    lines.add_product(repository, product, now)      -> sign by the targets' quorum
    adding.add_release(repository, product, image, …) -> sign by the line's quorum -> publish

Whatever writes holds the repository's lock while it reads, decides and writes. `now` is Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.ceremony import Ceremony
from hillhold_signer.chain import Chain
from hillhold_signer.config import GIT_FILES, MAX_CONFIG, Config, parse_config, read_people, show_config, write_people
from hillhold_signer.drafted import lineage, with_signatures
from hillhold_signer.drafts import Draft, Drafts, Quorum, parse_signed
from hillhold_signer.edit import Edit
from hillhold_signer.errors import (
    QuorumRefused,
    RepositoryRefused,
    SigningRefused,
    ToolError,
)
from hillhold_signer.examples import refuse_public
from hillhold_signer.layout import FolderLayout, Layout, LayoutOf
from hillhold_signer.places import Entry, Place
from hillhold_signer.publish import OnlineSigners, Publication, compose, renew
from hillhold_signer.readiness import ready_roles
from hillhold_signer.revocation import check_rotation, read_revoked
from hillhold_signer.signatures import SignatureFile
from hillhold_signer.state import State, read_state
from hillhold_signer.storage import locked, make_folder, place_file, read_file, remove_file, there, write_file
from hillhold_verifier.errors import HillholdError, MisuseError


@dataclass(frozen=True, slots=True)
class Signed:
    """One draft after a signature: `repeated` where this key had signed these bytes before."""

    role: str
    version: int
    digest: str
    repeated: bool
    quorum: Quorum


class Repository:
    """One repository; holds no state but where it is, and the last chain that it verified.

    Attributes:
        chain: that chain, which is taken for verified as long as root and timestamp have the same bytes.
    """

    def __init__(self, path: Place, chain: Chain | None = None, *, anchor: bytes | None = None) -> None:
        """Open a repository, in a folder or a store.

        Args:
            chain: one that was verified before.
            anchor: bytes of a root that the person keeps, from which all that is published has to follow; by default, the repository's own
                first root is taken for true.

        Raises:
            RepositoryRefused: `path` is not one.
        """
        self.layout: Layout = LayoutOf(path)
        self.chain = chain if anchor is None else None  # that was not held against it
        self._anchor = anchor
        self._read: tuple[int | None, State] | None = None
        if not there(self.layout.config):
            hint = "make one with `hillhold init`"
            raise RepositoryRefused(f"{path}", expected="a Hillhold repository", got="no hillhold.toml", hint=hint)

    @classmethod
    def create(cls, path: Place, ceremony: Ceremony, now: int, *, demo: bool = False) -> Repository:
        """Make a repository with drafts of root and targets, version 1 of each. Nothing is published.

        Raises:
            CeremonyRefused, PublicKeyMaterialRefused: the ceremony.
            RepositoryRefused: there is one already.
            StorageError: the directory cannot be written.
        """
        ceremony.check(demo=demo)
        layout: Layout = LayoutOf(path)
        if there(layout.config):
            raise RepositoryRefused(f"{path}", expected="no repository yet", got="one that exists")
        if isinstance(path, Path):
            make_folder(path)
        with locked(layout.lock):
            root = ceremony.root_after(None, now, demo=demo)
            targets = Targets(version=1, expires=encoding.utc(now + ceremony.expiry.targets))
            drafts = Drafts(layout)
            drafts.save("root", root, ())
            drafts.save("targets", targets, ())
            write_settings(layout, Config(demo, ceremony.expiry, ceremony.online()), ceremony.names())
        return cls(path)

    @property
    def folder(self) -> FolderLayout:
        """The files of a repository in a folder; raises `MisuseError` for any other."""
        if not isinstance(self.layout.path, Path):
            raise MisuseError(f"{self.layout.path}: expected a repository in a folder")
        return LayoutOf(self.layout.path)

    def config(self) -> Config:
        """Return the settings; raises `ConfigRefused`, `StorageError`."""
        return parse_config(read_file(self.layout.config, MAX_CONFIG))

    def people(self) -> dict[str, str]:
        """Return names by key id; raises `ConfigRefused`, `StorageError`."""
        return read_people(self.layout)

    def state(self) -> State:
        """Read and verify what the repository holds; raises `RepositoryRefused`, `StorageError`."""
        stamp = self._stamp()
        if stamp is None or self._read is None or self._read[0] != stamp:
            self._read = stamp, read_state(self.layout, self.chain, self._anchor)
            self.chain = self._read[1].chain
        return self._read[1]

    def wanted(self, key: Key | None, role: str | None = None) -> tuple[Draft, ...]:
        """Return the drafts that a key may sign; of a key that is not known yet (None), all of them.

        Raises:
            SigningRefused: none, or not the named role's.
            RepositoryRefused: there is no such role.
            MergeRefused: the named role's drafts do not go together; or those of any role, where no other one wants the key.
        """
        state = self.state()
        if role is not None:
            state.check_role(role)
        drafts = [draft for draft in state.drafts.values() if role in (None, draft.role)]
        asked = {draft.role: state.quorum(draft.role).wanted for draft in drafts}
        found = tuple(draft for draft in drafts if key is None or key.keyid in asked[draft.role])
        if key is not None and (gone := read_revoked(self.layout).get(key.keyid)) is not None:
            found = tuple(draft for draft in found if draft.role == "root")  # whose old quorum may need it
            if not found:
                raise SigningRefused("key", expected="one that was not revoked", got=gone.reason[:80])
        clash = next((state.clashes[name] for name in state.clashes if role in (None, name)), None)
        if clash is not None and (role is not None or not found):
            raise clash
        if not drafts:
            raise SigningRefused(f"{role}: nothing is drafted" if role else "nothing is drafted")
        if key is not None and not found:
            names = self.people()
            who = (
                f"{name}: {', '.join(sorted({names.get(it, it[:16]) for it in ids}))}" for name, ids in asked.items()
            )
            what = f"a key that a draft wants ({'; '.join(who)})"
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
        with self.writing():
            drafts = Drafts(self.layout)
            for draft in self.wanted(key, role):
                if shown is not None and shown.get(draft.role) != draft.digest:
                    raise SigningRefused(f"draft of {draft.role}", expected="what was shown", got="one changed since")
                repeated = key.keyid in draft.signatures
                signature = draft.signatures[key.keyid] if repeated else sign_bytes(signer, draft.payload)
                file = SignatureFile(draft.role, draft.signed.version, draft.digest, signature)
                drafts.add_signature(file, draft, key)  # one that is there, too: a service notes who hands it in
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
            MergeRefused: drafts that do not go together.
            RepositoryRefused, SigningRefused: see `compose`.
        """
        with self.writing() as state:
            self._check_quorums(state, roles)
            chosen = tuple(role for role in state.drafts if not roles or role in roles)
            config = self.config()
            if chosen:
                check_rotation(self.layout, state, chosen, self.people())
                publication = compose(self.layout, state, chosen, signers, config.expiry, now, demo=config.demo)
            elif state.interrupted:
                publication = renew(self.layout, state, signers, config.expiry, now)
            else:
                return Publication((), (), {})
            self._write(publication)
            self._tidy(state, chosen)
        return publication

    def ready(self, able: Callable[[str], bool] = lambda _: True) -> tuple[str, ...]:
        """Return the roles whose drafts can be published while the others wait; arguments and errors as those of `ready_roles`."""
        return ready_roles(self.layout, self.state(), able)

    def check_ready(self, roles: Sequence[str] = ()) -> Root:
        """Refuse what `publish` would refuse for lack of signatures, or for the rules of rotation, before any key is opened.

        Returns:
            The root whose online keys then sign.

        Raises:
            QuorumRefused: a draft lacks signatures.
            RotationRefused: a change of keys that may not be, or a revoked key that is still trusted.
            RepositoryRefused: there is no root.
        """
        state = self.state()
        self._check_quorums(state, roles)
        chosen = tuple(roles) or tuple(state.drafts)
        check_rotation(self.layout, state, chosen, self.people())
        return state.root() if "root" in chosen else self.published_root()

    def published_root(self) -> Root:
        """Return the newest published root; raises `RepositoryRefused` where there is none."""
        if (root := self.state().published_root) is None:
            raise RepositoryRefused("repository", expected="a published root", got="none", hint="`hillhold publish`")
        return root

    def chain_root(self) -> Root | None:
        """Return the root under which the rest of what is published stands; None before the first publication."""
        chain = self.state().chain
        return chain.root if chain else None

    def refresh(self, signers: OnlineSigners, now: int) -> Publication:
        """Sign the timestamp anew, and snapshot when half of its life is over; raises as `renew` does."""
        with self.writing() as state:
            publication = renew(self.layout, state, signers, self.config().expiry, now)
            self._write(publication)
        return publication

    @contextmanager
    def edit(self, now: int) -> Iterator[Edit]:
        """Hold the lock for one change of the drafts (`Edit`).

        Raises:
            RepositoryRefused, ConfigRefused: the repository is damaged.
            StorageError: it cannot be read or written, or somebody else holds it.
        """
        with self.writing() as state:
            yield Edit(self.layout, state, self.config(), now)

    @contextmanager
    def writing(self) -> Iterator[State]:
        """Hold the lock, and write down drafts that were merged; raises as `edit` does."""
        with locked(self.layout.lock):
            yield self.state() if self._stamp() is not None else self.merge()

    def merge(self) -> State:
        """Write down drafts that were merged, since two copies came together: for whoever holds the lock.

        A store that nobody else writes into has none, but for what `hillhold --service` sends.

        Raises:
            RepositoryRefused, StorageError: the repository.
        """
        state = self.state()
        merged = [state.drafts[role] for role in state.files.merged() if role in state.drafts]
        for draft in merged:
            Drafts(self.layout).save(draft.role, draft.signed, state.after(draft.role))
        return self.state() if merged else state

    def _stamp(self) -> int | None:
        return self.layout.path.store.stamp if isinstance(self.layout.path, Entry) else None

    def droppable(self, role: str, digest: str = "") -> tuple[Draft, str]:
        """Return what `drop` would give up, with the signatures on it, and its digest; without `digest`, the only draft.

        Raises:
            MergeRefused: there is no such draft, or more than one.
            RepositoryRefused: there is no such role.
        """
        state = self.state()
        state.check_role(role)
        node = lineage(self.layout, role, state.published(role)).head(digest)
        draft = state.drafts.get(role)
        if draft is None or draft.digest != node.digest:
            bare = Draft(role, parse_signed(node.value, role), node.payload, {})
            draft = with_signatures(bare, state.delegators, state.files)
        return draft, node.digest

    def drop(self, role: str, digest: str) -> str:
        """Give up a draft: of several that do not go together, or the only one, so that what is published stands again.

        Args:
            digest: of the draft, or how it begins.

        Returns:
            The digest of the draft that was given up.

        Raises:
            MergeRefused: there is no such draft, or it is the first version of its role.
            StorageError: the repository cannot be written.
        """
        with locked(self.layout.lock):
            found = lineage(self.layout, role, self.state().published(role))
            value, after = found.drop(digest)
            Drafts(self.layout).save(role, parse_signed(value, role), after)
        return next(node.digest for node in found.heads if node.digest.startswith(digest))

    def _check_quorums(self, state: State, named: Sequence[str]) -> None:
        if clash := next((state.clashes[role] for role in state.clashes if not named or role in named), None):
            raise clash
        roles = tuple(named) or tuple(state.drafts)
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
        for staged, path in publication.targets:
            place_file(staged, path)
        for path, data in publication.metadata:
            write_file(path, data)

    def _tidy(self, before: State, roles: Sequence[str]) -> None:
        """Remove what a publication has made old, and nothing that somebody's copy of the repository may still build on.

        The drafts that were just published stay until the next publication: who changed one meanwhile is merged against it. Staged files go
        once they are published; another's may have come in before the draft that names them.
        """
        elsewhere = before.files.targets_named(but=roles)
        drafts = Drafts(self.layout)
        for role in roles:
            files, signed = before.files.of(role), before.drafts[role].signed
            done = files.settled.done if files.settled else frozenset()
            drafts.forget(role, done)
            drafts.note_done(role, files.nodes.keys() - done, signed.version)
            for target in signed.targets.values() if isinstance(signed, Targets) else ():
                if target.hashes["sha256"] not in elsewhere:
                    remove_file(self.layout.staged_file(target.hashes["sha256"]))


def write_settings(layout: Layout, config: Config, names: Mapping[str, str]) -> None:
    """Make a directory a repository; raises `ContentRefused`, `StorageError`."""
    write_people(layout, names)
    for name, data in GIT_FILES.items():
        if not there(layout.path / name):
            write_file(layout.path / name, data)
    write_file(layout.config, show_config(config))  # last: its presence makes this a repository


def sign_bytes(signer: Signer, payload: bytes) -> Signature:
    """Return a signature; raises `ToolError` where the token or key service fails."""
    try:
        return signer.sign(payload)
    except HillholdError:
        raise
    except Exception as error:  # securesystemslib: a signer may raise anything
        raise ToolError(f"the key could not sign: {error}", hint="nothing was signed; run the command again") from error
