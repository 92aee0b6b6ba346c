"""Key types of TUF metadata (TUF 4.2), each a small module that fills one table.

A module names its schemes: the TUF key types under which each is known, a function that loads the public value and returns what checks a
signature, and one that tries whether this machine has the algorithm. To add one, write such a module and name it here.
"""

from __future__ import annotations

from typing import Final

from hillhold_verifier.keytypes import ecdsa, ed25519, mldsa, rsa
from hillhold_verifier.keytypes.scheme import Scheme

SCHEMES: Final[dict[str, Scheme]] = {**ed25519.SCHEMES, **ecdsa.SCHEMES, **rsa.SCHEMES, **mldsa.SCHEMES}
"""By TUF signature scheme; whether this machine's `cryptography` has it, each tells (`Scheme.supported`)."""
