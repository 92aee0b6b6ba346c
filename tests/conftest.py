"""What all tests share: property tests try the same examples in every run, so that a red run is red for everyone."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
