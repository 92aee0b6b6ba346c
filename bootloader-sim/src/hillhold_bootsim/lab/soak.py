"""Updates back and forth, thousands of them: forth to a new release by a patch, back to the one before by its maker's leave."""

from __future__ import annotations

from dataclasses import dataclass

from hillhold_bootsim.lab.honest import Kept, Stand, concluded, settled, update
from hillhold_bootsim.lab.model import Case, Evidence, Result


@dataclass(frozen=True, slots=True)
class SoakWork:
    """See `honest.Work`.

    Attributes:
        updates: how many.
    """

    updates: int

    @property
    def case(self) -> Case:
        """What the report says of it."""
        return Case(
            "soak",
            "soak",
            f"{self.updates} updates, back and forth.",
            "In turn a newer release, which comes as a patch, and the one before, which its maker lets the board step down to. A stock "
            "board gets newer releases only.",
            "Every update comes in, is confirmed, and no counter and no floor is lower after it.",
            (
                *("iec62443-4-1:SVV-1", "iec81001-5-1:5.7.1", "iec62443-4-2:EDR-3.10", "fda-premarket:appendix-1.H"),
                *("en303645:5.3-1", "eu-cra:I-2c", "fda-premarket:appendix-1.C-downgrade"),
            ),
            f"floors rise by {self.updates}; each update wears the flash",
            needs=(),
        )

    def do(self, bench: Stand, kept: Kept) -> Result:
        """See `honest.Work`."""
        if result := settled(self.case, bench, kept, "update"):
            return result
        parts, below = list(kept.parts), None
        while len(parts) < self.updates and not any(part.problem for part in parts):
            house, base = bench.go_on(), bench.current
            if below is None or bench.is_stock:
                release, below = house.release(base=None if bench.is_stock else base), base
            else:
                house.back(below, base)
                release, below = below, None
            parts.append(update(bench, release))
            kept.add(parts[-1])
        trace = Evidence("trace", "the last update", bench.wire.text())
        return concluded(self.case, bench, parts, "update", f"{len(parts)} updates back and forth came in", trace)
