"""Which delegated role a target path belongs to: order, patterns, hash prefixes and bins of one file (TUF 4.5)."""

from __future__ import annotations

from hashlib import sha256

from hillhold_verifier.roles import Delegation, Succinct, Targets


def delegations_for(targets: Targets, path: str) -> list[Delegation]:
    """Return the delegations of one file that are trusted for `path`, in order; a terminating one ends the list."""
    if targets.succinct:
        return [_bin(targets.succinct, path)]
    found = []
    for delegation in targets.delegations:
        if matches(delegation, path):
            found.append(delegation)
            if delegation.terminating:
                break
    return found


def matches(delegation: Delegation, path: str) -> bool:
    """Say whether a delegation is trusted for `path`; wildcards never match a slash."""
    digest = sha256(path.encode(errors="surrogatepass")).hexdigest()
    return any(digest.startswith(prefix) for prefix in delegation.prefixes) or any(
        _glob(pattern, path) for pattern in delegation.paths
    )


def _glob(pattern: str, path: str) -> bool:
    """`*` and `?` within a segment; time is at most the product of both lengths, whatever the pattern."""
    wanted, parts = pattern.split("/"), path.split("/")
    return len(wanted) == len(parts) and all(map(_segment, wanted, parts))


def _segment(pattern: str, text: str) -> bool:
    at = star = 0
    retry = -1  # where the text went on after the last star; -1 before there was one
    here = 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at, here = at + 1, here + 1
        elif retry >= 0:
            retry += 1
            at, here = star + 1, retry
        else:
            return False
    return not pattern[at:].strip("*")


def _bin(succinct: Succinct, path: str) -> Delegation:
    """The one bin of `path` (TAP 15): the leading bits of its SHA-256."""
    number = int.from_bytes(sha256(path.encode(errors="surrogatepass")).digest()[:4], "big") >> (32 - succinct.bits)
    width = -(-succinct.bits // 4)
    return Delegation(f"{succinct.prefix}-{number:0{width}x}", succinct.role, (), (), True, frozenset(), 0, 0)
