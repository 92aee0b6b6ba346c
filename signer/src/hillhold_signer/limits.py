"""What targets allow a product line, held against what the line uses.

Two roles, signed by different people at different times, have to agree here: a line that goes beyond its delegation is no danger to a
device, which passes over such a release, but nobody would be told. So this is checked when caps are drafted, and when either is published.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuf.api.metadata import Targets

from hillhold_signer.chain import line_names
from hillhold_signer.difference import GRACE
from hillhold_signer.errors import ProductRefused
from hillhold_signer.products import Caps, caps_of
from hillhold_signer.releases import understood
from hillhold_verifier.release import Release


def check_lines(
    before: Targets | None, after: Targets, published: Mapping[str, Targets], new: Mapping[str, Targets]
) -> None:
    """Refuse a publication after which a line uses more than it is allowed.

    Args:
        before, after: top-level targets as they are published, and as they will be.
        published: the lines as they are.
        new: the lines that are published now; only these, and those whose caps change, are looked at.

    Raises:
        ProductRefused, ReleaseRefused: as `check_limits`.
    """
    known = set(line_names(before)) if before else set()
    for name in line_names(after) if after is not before else new:
        if name not in known or before is None:
            if name in new:
                check_limits(name, caps_of(after, name), new[name])
            continue
        caps = caps_of(after, name)
        same = after is before or caps_of(before, name) == caps
        if name in new:
            check_limits(name, caps, new[name], published.get(name) if same else None)
        elif not same and name in published:
            check_limits(name, caps, published[name])


def check_limits(name: str, caps: Caps, line: Targets, since: Targets | None = None) -> None:
    """Refuse caps under which devices would pass over a release that the line lists, or cut its offline grace short.

    Args:
        since: a version of the line that was held against the same caps: what it listed is not looked at again.

    Raises:
        ProductRefused: such caps.
        ReleaseRefused: an entry of the line that a device would not understand.
    """
    seen = since.targets if since else {}
    for target in (target for path, target in line.targets.items() if seen.get(path) != target):
        release = understood(target)
        if not isinstance(release, Release) or release.withdrawn is not None:
            continue
        what = f"{name} {release.version}, which the line lists"
        if release.security_counter > caps.max_security_counter:
            expected = f"a counter of at most {caps.max_security_counter}"
            raise ProductRefused(what, expected=expected, got=release.security_counter)
        if foreign := sorted(release.hardware - set(caps.hardware)):
            hint = "withdraw it, or take the hardware from it first"
            raise ProductRefused(what, expected=f"for {', '.join(caps.hardware)}", got=f"for {foreign[0]}", hint=hint)
    grace = line.unrecognized_fields.get(GRACE, 0)
    if grace > caps.max_offline_grace:
        expected = f"at least {grace} s, which {name} uses"
        raise ProductRefused("longest offline grace", expected=expected, got=caps.max_offline_grace)
