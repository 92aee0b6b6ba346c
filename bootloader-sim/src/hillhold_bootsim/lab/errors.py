"""What the laboratory's tools refuse."""

from __future__ import annotations

from hillhold_signer.errors import SignerRefused


class CampaignRefused(SignerRefused):
    """A campaign's data that cannot be read, or that contradict themselves."""


class ReportRefused(SignerRefused):
    """A report that is not what its laboratory signed, or a folder that is none."""
