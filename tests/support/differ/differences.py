"""The numbered list of differences between the verifier and python-tuf, and python-tuf with any of them taken away.

Each difference is stated twice: in words, and as a change to python-tuf (`reading`, `ruled`, `judges`) that makes it judge as the
verifier does. A case is explained where python-tuf with the changes gives the verifier's verdicts, all of them, in each session; the
differences that explain it are those without whose change it does not. So no difference is waved through: what a number may bring about
is exactly what its few lines of code do.

A number is never used again for something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

STRICTER: Final = {
    1: "A lister states a SHA-256 to a device: without it any file of that version would do. Optional in python-tuf.",
    2: "Hillhold's own fields are well formed. python-tuf does not know them.",
    4: "Two key ids that carry the same key count once (TUF 5.3.4: each key contributes one signature). python-tuf counts ids.",
    5: "No floats, no integers beyond 2**53-1, no key twice, no lone surrogates, bounded nesting: what JSON implementations do not agree "
    "on is refused wherever it stands in a file.",
    6: "Where hashes are stated, there is one that is computed here (SHA-256, SHA-512; a device: SHA-256 of a target). python-tuf refuses "
    "the file that is listed so, not the lister, and a target only when it is downloaded.",
    7: "A product line is delegated by the path PRODUCT/*/*, and by no other form (hash prefixes).",
    9: "Fields have the type and form that TUF 4 gives them: a boolean is no integer, a text no array, a date and a hash have one form. "
    "python-tuf takes what Python takes, or refuses later.",
    10: "Limits: 64 signatures, names of 256 characters, 4096 entries, targets of 2**32 bytes. python-tuf has none.",
    11: "The versions of authenticated timestamps and snapshots count between sessions, even of expired ones, while the keys that signed "
    "them are trusted. python-tuf forgets what it does not keep, and never compares a snapshot's own version.",
    12: "Time does not go back behind the time at which an authenticated timestamp says that it was signed. python-tuf believes its clock.",
    13: "A root whose keys leave a role without a quorum that can be checked here is refused, not followed into a lockout.",
    14: "Only Ed25519, ECDSA P-256 and P-384, RSA-PSS of 2048 to 8192 bits and ML-DSA sign. python-tuf takes PKCS#1 v1.5 and short keys.",
    15: "A snapshot lists targets.json, and file names that end in .json. python-tuf misses targets.json only when it needs it.",
    16: "A listed and held file that has expired is not asked for again: another file of that version is none that TUF 4.4 allows.",
}
LAXER: Final = {
    20: "Roles of root that are not known here are ignored: TUF 4.3 has the role of mirrors, which python-tuf refuses.",
    23: "A key that cannot be used is one that never verifies: TUF 4.2 lets anyone define key types. python-tuf refuses the file.",
    24: "Next to a hash that is checked, one of an unknown algorithm is ignored, as all that is undefined (TUF 4). python-tuf refuses.",
}
OTHER: Final = {
    8: "A held snapshot counts while its lister names it by version *and* hash and length. python-tuf keeps it by its version.",
    25: "Wildcards are * and ?, the two that TUF 4.5 names. To python-tuf brackets are wildcards, too.",
    26: "Signatures are over the file's own `signed` (TUF 4.2.1). python-tuf checks them over what it would write: without nulls, with "
    "dates in another form, and without what it does not know in a timestamp's meta.",
}
ALL: Final = frozenset({*STRICTER, *LAXER, *OTHER})


@dataclass
class Rules:
    """The differences that are taken away, and those that had something to say: the only ones that can explain a case."""

    on: frozenset[int]
    fired: set[int] = field(default_factory=set)

    def fire(self, number: int) -> bool:
        """Say whether the rule holds; it does matter here."""
        if number in self.on:
            self.fired.add(number)
        return number in self.on
