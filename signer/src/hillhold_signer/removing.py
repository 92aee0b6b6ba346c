"""Taking a release out of a draft. What was published is withdrawn instead (`withdrawing`): devices may have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuf.api.metadata import Targets

from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.fleet import Fleet
from hillhold_signer.listing import chosen
from hillhold_signer.products import caps_of
from hillhold_signer.releases import understood
from hillhold_signer.repository import Repository
from hillhold_signer.retarget import only
from hillhold_verifier.release import Patch, Release


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove_release` took out of a line's draft.

    Attributes:
        path: the release; `others`: patches that make it or start from it, and files for auditors that came with it.
        void: key ids of the signatures on the draft as it was: they count no more.
        warnings: other releases that no device can install any longer, in an auditor's words.
        version: of the draft.
    """

    path: str
    others: tuple[str, ...]
    void: tuple[str, ...]
    warnings: tuple[str, ...]
    version: int


def remove_release(
    repository: Repository,
    product: str,
    version: str,
    now: int,
    *,
    component: str | None = None,
    file_name: str | None = None,
) -> Removed:
    """Draft a line's role without a release that was drafted and not published. Staged files stay until the next publication.

    Args:
        now: Unix seconds.
        component: may be left out where only one component has that version.
        file_name: tells releases of one version apart.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused: no such release, several, or a published one.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        line, caps = edit.line(product), caps_of(edit.state.targets(), product)
        draft, published = edit.state.drafts.get(product), edit.state.published(product)
        listed = published.targets if isinstance(published, Targets) else {}
        old = Fleet(product, caps, line)
        release = only(chosen(old.releases, version, component, file_name))
        if release.path in listed:
            hint = "devices may have it: `hillhold withdraw`"
            raise ReleaseRefused(f"target {release.path}", expected="a draft", got="a published release", hint=hint)
        del line.targets[release.path]
        left = [item for item in old.releases if item.path != release.path]
        others = tuple(sorted(path for path in _of(line, release, left) if path not in listed))
        for path in others:
            del line.targets[path]
        fleet = Fleet(product, caps, line)
        edit.save(product, line)
    void = tuple(sorted(draft.signatures)) if draft else ()
    return Removed(release.path, others, void, tuple(sorted(fleet.findings() - old.findings())), line.version)


def _of(line: Targets, release: Release, left: Sequence[Release]) -> list[str]:
    """What a line lists on account of one release, and of none that is `left`."""
    folder = release.path.rpartition("/")[0]
    last = all(item.path.rpartition("/")[0] != folder for item in left)
    base = release.sha256 not in {item.sha256 for item in left}
    found = []
    for path, target in line.targets.items():
        item = understood(target)
        if isinstance(item, Patch):
            if item.makes == release.path or (base and item.base == release.sha256):
                found.append(path)
        elif item is None and last and path.rpartition("/")[0] == folder:
            found.append(path)
    return found
