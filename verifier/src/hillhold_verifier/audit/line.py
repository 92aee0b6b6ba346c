"""A product line: how the chain has it, its role, and each of its targets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from hillhold_verifier.algorithms import DECODERS
from hillhold_verifier.audit.chain import Chain, Entry
from hillhold_verifier.audit.files import TargetFiles
from hillhold_verifier.audit.report import Level, LineReport, Notes, TargetReport
from hillhold_verifier.audit.rules import judge_releases
from hillhold_verifier.audit.signers import key_warnings
from hillhold_verifier.errors import MetadataError, MissingError, Refused
from hillhold_verifier.metadata import TARGETS, parse_targets
from hillhold_verifier.release import NOTHING, Patch, Release, parse_target
from hillhold_verifier.roles import Delegation, MetaFile, TargetFile, Targets
from hillhold_verifier.trust import Current, current, update_line


class Lines:
    """The lines of a chain; `asked` are products that are wanted by name: one that is no line is refused then."""

    def __init__(self, chain: Chain, asked: Sequence[str], files: TargetFiles | None) -> None:
        self._chain, self._asked, self._files = chain, asked, files
        delegated = chain.targets.signed.delegations if chain.targets else ()
        self._delegated = {delegation.name: delegation for delegation in delegated}
        self._listed = (
            {name: file for name, file in chain.snapshot.signed.meta.items() if name != TARGETS}
            if chain.snapshot
            else {}
        )

    @property
    def products(self) -> list[str]:
        """What is delegated, in that order; then what is only listed; or what was asked for."""
        rest = sorted(self._listed.keys() - self._delegated.keys())
        return list(dict.fromkeys(self._asked)) or [*self._delegated, *rest]

    def judge(self, product: str) -> LineReport:
        """Judge what stands under a name."""
        delegation, listed = self._delegated.get(product), self._listed.get(product)
        notes = Notes(product, self._chain.said)
        state = self._state(product, delegation, listed)
        if state == "line" and delegation and listed:
            return self._judge_line(product, delegation, listed, notes)
        refused = state in ("unlisted", "absent") or product in self._asked
        if state != "not judged":
            self._explain(state, Level.REFUSED if refused else Level.WARNING, notes)
        elif refused:
            expected = "a chain that is whole down to targets"
            notes.add(Level.REFUSED, str(MissingError("product line", expected=expected, got="less")))
        return LineReport(product, state, delegation, None, False, 0, 0, (), notes.found)

    def _state(self, product: str, delegation: Delegation | None, listed: MetaFile | None) -> str:
        if not (self._chain.targets and self._chain.snapshot):
            return "not judged"
        if delegation is None:
            return "retired" if listed else "absent"
        if f"{product}/*/*" not in delegation.paths:
            return "other"
        return "line" if listed else "unlisted"

    @staticmethod
    def _explain(state: str, level: Level, notes: Notes) -> None:
        expected = f"a delegation to {notes.where}, listed in snapshot"
        got = {
            "retired": "a listing only: a line that was retired",
            "unlisted": "a delegation only",
            "other": f"a delegation of other paths than {notes.where}/*/*",
            "absent": "none",
        }[state]
        notes.add(level, str(MissingError("product line", expected=expected, got=got)))

    def _judge_line(self, product: str, delegation: Delegation, listed: MetaFile, notes: Notes) -> LineReport:
        chain = self._chain
        keys = chain.targets.signed.keys if chain.targets else {}
        entry = Entry(product, notes)
        chain.fetch(entry, f"{listed.version}.{product}.json")
        line = chain.judge(entry, partial(parse_targets, role=product), (TARGETS, delegation.role, keys), listed)
        found = self._as_a_device(product, entry.data, notes)
        for warning in key_warnings(product, delegation.role, keys):
            notes.add(Level.WARNING, warning)
        targets: tuple[TargetReport, ...] = ()
        if line:
            chain.expiry(entry, product, line.signed.expires)
            self._warn(line.signed, delegation, found, notes)
            # What nobody signed says nothing about files.
            if chain.entries[-1].authentic and entry.authentic:
                targets = _Targets(product, delegation, line.signed, self._files).judge()
        return LineReport(
            product,
            "line",
            delegation,
            entry.report(),
            found is not None,
            line.signed.offline_grace if line else 0,
            found.grace_used if found else 0,
            targets,
            (),
        )

    def _as_a_device(self, product: str, data: bytes | None, notes: Notes) -> Current | None:
        """The chain, if a fresh device of this product would find it current."""
        trust = self._chain.trust
        if trust is None or data is None:
            return None
        try:
            return current(update_line(trust, product, data, self._chain.at), product, self._chain.at)
        except Refused as error:
            notes.add(Level.REFUSED, str(error))
            return None

    @staticmethod
    def _warn(line: Targets, delegation: Delegation, found: Current | None, notes: Notes) -> None:
        if line.offline_grace > delegation.max_offline_grace:
            notes.add(
                Level.WARNING, f"offline grace: {line.offline_grace} s, of which {delegation.max_offline_grace} s count"
            )
        if line.delegations or line.succinct:
            notes.add(Level.WARNING, "delegates to further roles: no device follows")
        if found and found.grace_used:
            notes.add(Level.WARNING, "accepted by its offline grace only")


class _Targets:
    """The targets of one line."""

    def __init__(self, product: str, delegation: Delegation, line: Targets, files: TargetFiles | None) -> None:
        self._product, self._delegation, self._line, self._files = product, delegation, line, files
        self._notes = {path: Notes(path) for path in line.targets}
        self._documents = _documents(line)
        self._says: dict[str, Release | Patch | None] = {}
        self._state: dict[str, str] = {}
        self._image: dict[str, str | None] = {}

    def judge(self) -> tuple[TargetReport, ...]:
        """Judge each: first what it says, then its file, then what patches make."""
        for path, target in self._line.targets.items():
            self._says[path] = self._parse(target)
        releases = [says for says in self._says.values() if isinstance(says, Release)]
        for release, level, message in judge_releases(self._product, self._delegation, releases):
            self._notes[release.path].add(level, message)
        for path, target in self._line.targets.items():
            self._state[path] = self._files.check(target, self._notes[path]) if self._files else "not looked at"
            says = self._says[path]
            if self._files and isinstance(says, Release) and self._state[path] == "as signed":
                self._image[path] = self._files.check_image(says, self._notes[path])
        bases = self._bases(releases)
        return tuple(self._close(target, bases) for target in self._line.targets.values())

    def _parse(self, target: TargetFile) -> Release | Patch | None:
        notes = self._notes[target.path]
        try:
            found = parse_target(target)
        except MetadataError as error:
            notes.add(Level.REFUSED, f"malformed: {error}")
            return None
        if found is None and target.hashes.get("sha256") not in self._documents:
            notes.add(Level.WARNING, "says nothing to Hillhold: no device looks at it")
        return found

    def _bases(self, releases: Sequence[Release]) -> Mapping[bytes, Release]:
        """The listed releases by hash; of several, one whose file is as signed."""
        found: dict[bytes, Release] = {}
        for release in releases:
            if release.sha256 not in found or self._state[release.path] == "as signed":
                found[release.sha256] = release
        return found

    def _close(self, target: TargetFile, bases: Mapping[bytes, Release]) -> TargetReport:
        path, says = target.path, self._says[target.path]
        base, exact = None, None
        if isinstance(says, Patch):
            base = bases.get(says.base)
            exact = self._judge_patch(says, base)
        return TargetReport(
            path,
            target.length,
            target.hashes.get("sha256"),
            says,
            self._state[path],
            self._image.get(path),
            base.path if base else None,
            exact,
            self._notes[path].found,
        )

    def _judge_patch(self, patch: Patch, base: Release | None) -> bool | None:
        notes, result = self._notes[patch.path], self._says.get(patch.makes)
        if not isinstance(result, Release):
            notes.add(Level.REFUSED, str(MissingError("makes", expected="a release of this line", got=patch.makes)))
        if base and base.length != patch.base_length:
            error = MetadataError(
                "base_length", expected=f"{base.length}, the length of {base.path}", got=patch.base_length
            )
            notes.add(Level.REFUSED, str(error))
            return None
        if patch.algorithm not in DECODERS:
            notes.add(Level.WARNING, f"algorithm {patch.algorithm}: devices of this version take the whole image")
            return None
        needed = [patch.path, *([base.path] if base else [])]
        ready = (base or patch.base == NOTHING) and all(self._state[path] == "as signed" for path in needed)
        if self._files and ready and isinstance(result, Release):
            return self._files.check_patch(patch, base, result, notes)
        return None


def _documents(line: Targets) -> frozenset[bytes]:
    """The hashes of what came with releases, as these state them (`sbom`, `notes`): such a target is there for auditors."""
    found = set()
    for target in line.targets.values():
        custom = target.custom if isinstance(target.custom, dict) else {}
        listed = custom.get("sbom")
        for entry in (*(listed if isinstance(listed, list) else ()), custom.get("notes")):
            digest = entry.get("sha256") if isinstance(entry, dict) else None
            if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest):
                found.add(bytes.fromhex(digest))
    return frozenset(found)
