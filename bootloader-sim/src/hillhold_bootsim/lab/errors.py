"""What the laboratory's tools refuse, and what they cannot do."""

from __future__ import annotations

from hillhold_signer.errors import SignerRefused


class CampaignRefused(SignerRefused):
    """A campaign's data that cannot be read, or that contradict themselves."""


class NotTestedError(Exception):
    """An attack finds that a board is in no position for it; the reason in words."""


class ReportRefused(SignerRefused):
    """A report that is not what its laboratory signed, or a folder that is none."""
