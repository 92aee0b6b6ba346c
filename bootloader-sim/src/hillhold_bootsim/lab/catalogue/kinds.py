"""The clauses that all attacks of a kind speak to.

Clauses on signatures are for attacks that lack one: whoever brings back what is old and authentic breaks none of them, and speaks to those
on rollback and replay alone.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from hillhold_bootsim.lab.catalogue import sources as of

Clauses: TypeAlias = tuple[str, ...]

# --- how a test is one ------------------------------------------------------------------------------------------------

LIMITS: Final[Clauses] = (of.SVV_1, of.TESTED_REQUIREMENTS)
"""Limits, overload, and values that nobody expects."""
MITIGATION: Final[Clauses] = (of.SVV_2, of.TESTED_MITIGATIONS)
"""One rule against one threat, and an attempt to get around it."""
WEAKNESS: Final[Clauses] = (of.SVV_3, of.TESTED_WEAKNESSES)
"""A weakness that update systems had, or that people look for."""
COMBINED: Final[Clauses] = (of.SVV_4, of.TESTED_BREAKING_IN)
"""A stolen key and old files, or a race: steps that are a compromise only together."""

# --- what comes over the line -----------------------------------------------------------------------------------------

MALFORMED: Final[Clauses] = (of.CR_3_5, of.FDA_WELL_FORMED, *WEAKNESS)
"""Input that is not of its form."""
AVAILABLE: Final[Clauses] = (of.CR_7_1, of.TR_ESSENTIAL, of.FDA_RESILIENT, of.CRA_AVAILABLE)
"""Attempts to wear a board out: it goes on running what it ran, and serves whoever comes next."""
UNASKED: Final[Clauses] = (of.SMP_UNAUTHENTICATED, of.FDA_DENY, of.CRA_ACCESS)
"""Commands of somebody who has the line, and no right to them."""
CONFIRMING: Final[Clauses] = (of.NIST_CRITICAL, of.FDA_INTEGRITY, of.CRA_INTEGRITY, *UNASKED)
"""Commands that would change what a board has confirmed."""
WHOLE: Final[Clauses] = (of.EDR_3_10_AUTHENTIC, of.TR_UPDATES, of.CR_3_4, of.EN_VERIFY, of.CRA_INTEGRITY)
"""What comes into a slot is not the whole of what was signed: it is found before it is installed."""

# --- images -----------------------------------------------------------------------------------------------------------

BOOTED: Final[Clauses] = (of.TR_BOOT, of.FDA_BEFORE_EXECUTION, of.EN_BOOT, of.NIST_BEFORE_EXECUTION)
"""What a bootloader starts, it has verified."""
ALTERED: Final[Clauses] = (
    *(of.CR_3_4, of.EDR_3_14, of.TR_SOFTWARE, of.FDA_INTEGRITY, of.EN_VERIFY, of.CRA_INTEGRITY),
    *BOOTED,
)
"""An image that is not what was signed."""
UNSIGNED: Final[Clauses] = (
    *(of.CR_3_4_AUTHENTIC, of.EDR_3_14_AUTHENTIC, of.TR_SOFTWARE, of.FDA_CHANGE, of.EN_VERIFY, of.NIST_SIGNED),
    *BOOTED,
)
"""An image that nobody signed who may."""
DOWNGRADE: Final[Clauses] = (of.TUF_ROLLBACK, of.NIST_ROLLBACK, of.FDA_DOWNGRADE)
"""An older image, or an older counter, that was authentic all along."""
RESTORED: Final[Clauses] = (of.NIST_RECOVER, of.NIST_RESTORED, of.CR_7_4)
"""A trial that fails: the board goes back to what it ran."""

# --- metadata ---------------------------------------------------------------------------------------------------------

REPLAYED: Final[Clauses] = (of.TUF_ROLLBACK, of.NIST_ROLLBACK, of.FDA_REPLAY, of.CRA_DISTRIBUTED)
"""Files from before a withdrawal, authentic, by which a release would come in that is known to be bad."""
FORGED: Final[Clauses] = (
    *(of.EDR_3_10_AUTHENTIC, of.TR_UPDATES, of.FDA_AUTHORISED, of.EN_TRUST, of.NIST_MECHANISM, of.CRA_DISTRIBUTED),
)
"""Metadata that no quorum signed."""
ROOT: Final[Clauses] = (of.EDR_3_12, of.NIST_OUTSIDE, of.NIST_KEY_STORE)
"""Another root of trust than the quorum's."""
WITHDRAWN: Final[Clauses] = (of.FDA_CHANGE, of.FDA_VALIDATED)
"""A release that its maker took back."""
UPDATABLE: Final[Clauses] = (of.EDR_3_10, of.FDA_UPDATES, of.EN_UPDATABLE, of.CRA_UPDATES)
"""Attempts to lock a board's maker out: its next release comes in."""
