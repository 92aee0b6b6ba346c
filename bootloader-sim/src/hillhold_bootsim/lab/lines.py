"""Honest updates over a bad line: all of them have to come through."""

from __future__ import annotations

from dataclasses import dataclass

from hillhold_bootsim.lab.campaign import LineOrder
from hillhold_bootsim.lab.honest import Kept, Stand, concluded, settled, update
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.model import Case, Evidence, Result
from hillhold_bootsim.line import Direction
from hillhold_bootsim.linefaults import Counts


@dataclass(frozen=True, slots=True)
class LineWork:
    """See `honest.Work`."""

    order: LineOrder

    @property
    def case(self) -> Case:
        """What the report says of it."""
        order, faults = self.order, self.order.faults
        rates = {"flipped bits": faults.errors, "losses": faults.drops, "noise": faults.noise, "bursts": faults.bursts}
        told = [f"{name} {rate:g}" for name, rate in rates.items() if rate]
        adapter = f", an adapter that holds bytes for {order.latency * 1000:g} ms" if order.latency else ""
        return Case(
            f"line-{order.name}",
            "line",
            f"Updates over a line of {order.baud} baud{adapter}: {', '.join(told) or 'no faults'}.",
            f"{order.updates} honest updates over a modelled line between host and board; rates are for each byte, in both directions"
            + (f"; a burst has {faults.burst_length} bytes." if faults.bursts else "."),
            "Every update comes in, is confirmed, and nothing is lower after it.",
            (
                *(
                    "fda-premarket:appendix-1.H-interruption",
                    "iec62443-4-1:SVV-1",
                    "iec81001-5-1:5.7.1",
                    "en303645:5.3-1",
                ),
                *("iec62443-4-2:EDR-3.10", "fda-premarket:appendix-1.G", "fda-premarket:appendix-1.H"),
            ),
            f"floors rise by {order.updates}; each update wears the flash",
            needs=(),
        )

    def do(self, bench: Stand, kept: Kept) -> Result:
        """See `honest.Work`."""
        if result := settled(self.case, bench, kept, "update"):
            return result
        parts, rig = list(kept.parts), bench.rig
        own = rig.model
        try:
            while len(parts) < self.order.updates and not any(part.problem for part in parts):
                rig.model = None  # what is not the update itself is not spoiled
                release = bench.go_on().release()
                rig.model = self.order.model(bench.seed * 10_000 + len(parts))
                part = update(bench, release)
                spoiled = sum(_spoiled(rig.model.counts(way)) for way in Direction)
                figures = {**part.figures, "bytes spoiled, lost or of noise": spoiled}
                parts.append(Part(figures, f"{part.text}, {spoiled} bytes spoiled, lost or of noise", part.problem))
                kept.add(parts[-1])
        finally:
            rig.model = own
        trace = Evidence("trace", "the last update", bench.wire.text())
        return concluded(self.case, bench, parts, "update", f"{len(parts)} updates came through", trace)


def _spoiled(counts: Counts) -> int:
    return counts.errors + counts.dropped + counts.burst_spoiled + counts.burst_lost + counts.noise
