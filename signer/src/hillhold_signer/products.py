"""Product lines: a delegation in top-level targets, with what it allows the line.

    {"name":"pump","keyids":[…],"threshold":2,"terminating":true,"paths":["pump/*/*"],
     "x-hillhold":{"hardware":["nrf51-a"],"max_offline_grace":0,"max_security_counter":1000}}

The caps bound what the weakest team can do: sign for another team's board, burn a security counter for ever, or keep devices on
old metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from tuf.api.metadata import DelegatedRole, Delegations, Targets

from hillhold_signer.ceremony import Team
from hillhold_signer.chain import line_names
from hillhold_signer.durations import MAX_SECONDS
from hillhold_signer.encoding import copied
from hillhold_signer.errors import ProductRefused
from hillhold_signer.layout import TOP_LEVEL, is_segment

MAX_HARDWARE: Final = 256
"""Hardware ids of one line."""
MAX_COUNTER: Final = 2**32 - 1
"""MCUboot's security counter is a 32-bit integer."""
DEFAULT_MAX_COUNTER: Final = 1000
"""More than any product raises by hand, and far from burning a counter for ever."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a delegation allows its line.

    Attributes:
        hardware: sorted ids that the line may name.
        max_security_counter: the highest one that a release may carry.
        max_offline_grace: seconds by which an expired timestamp or snapshot may still be accepted.
    """

    hardware: tuple[str, ...]
    max_security_counter: int = DEFAULT_MAX_COUNTER
    max_offline_grace: int = 0

    def check(self) -> None:
        """Refuse caps that make no sense; raises `ProductRefused`."""
        check_hardware(self.hardware)
        if not 0 <= self.max_security_counter <= MAX_COUNTER:
            what = "highest security counter"
            raise ProductRefused(what, expected=f"0 to {MAX_COUNTER}", got=self.max_security_counter)
        if not 0 <= self.max_offline_grace <= MAX_SECONDS:
            raise ProductRefused("longest offline grace", expected=f"0 to {MAX_SECONDS} s", got=self.max_offline_grace)


@dataclass(frozen=True, slots=True)
class Product:
    """A product line to be made: its name, its people, and its caps."""

    name: str
    team: Team
    caps: Caps

    def check(self, *, demo: bool) -> None:
        """Refuse what may not be a product line.

        Raises:
            ProductRefused: its name, hardware or caps.
            CeremonyRefused, PublicKeyMaterialRefused: its team.
        """
        if not is_segment(self.name) or self.name in TOP_LEVEL:
            raise ProductRefused(
                "product name",
                expected="lowercase letters, digits and ._+-, and not the name of a top-level role",
                got=repr(self.name)[:80],
            )
        self.caps.check()
        self.team.check(f"product {self.name}", demo=demo)


def check_hardware(hardware: Sequence[str]) -> tuple[str, ...]:
    """Return hardware ids sorted, each once; raises `ProductRefused` for none, too many or a malformed one."""
    if not 1 <= len(hardware) <= MAX_HARDWARE:
        raise ProductRefused("hardware", expected=f"1 to {MAX_HARDWARE} ids", got=len(hardware))
    for item in hardware:
        if not is_segment(item):
            raise ProductRefused("hardware id", expected="lowercase letters, digits and ._+-", got=repr(item)[:80])
    return tuple(sorted(set(hardware)))


def with_line(targets: Targets, product: Product) -> Targets:
    """Return targets that also delegate to a new line; raises `ProductRefused` where there is one of that name."""
    if product.name in line_names(targets):
        raise ProductRefused(f"product line {product.name}", expected="a new name", got="one that exists")
    new = copied(targets)
    delegations = new.delegations or Delegations(keys={}, roles={})
    role = DelegatedRole(
        name=product.name,
        keyids=sorted(item.key.keyid for item in product.team.keys),
        threshold=product.team.threshold,
        terminating=True,
        paths=[f"{product.name}/*/*"],
        unrecognized_fields={"x-hillhold": _caps_value(product.caps)},
    )
    roles = {**(delegations.roles or {}), product.name: role}
    keys = {**delegations.keys, **{item.key.keyid: item.key for item in product.team.keys}}
    new.delegations = Delegations(keys=keys, roles=roles)
    return new


def with_team(targets: Targets, name: str, team: Team) -> Targets:
    """Return targets in which a line has other keys; raises `ProductRefused` for an unknown line."""
    caps_of(targets, name)
    new = copied(targets)
    if new.delegations and new.delegations.roles:
        role = new.delegations.roles[name]
        role.keyids = sorted(item.key.keyid for item in team.keys)
        role.threshold = team.threshold
        new.delegations.keys.update({item.key.keyid: item.key for item in team.keys})
        _forget_keys(new.delegations)
    return new


def without_line(targets: Targets, name: str) -> Targets:
    """Return targets that do not delegate to a line any more; raises `ProductRefused` for an unknown line."""
    caps_of(targets, name)
    new = copied(targets)
    if new.delegations and new.delegations.roles:
        del new.delegations.roles[name]
        _forget_keys(new.delegations)
    return new


def with_caps(targets: Targets, name: str, caps: Caps) -> Targets:
    """Return targets that allow a line something else; raises `ProductRefused` for an unknown line, or caps that make no sense."""
    caps_of(targets, name)
    caps.check()
    new = copied(targets)
    if new.delegations and new.delegations.roles:
        new.delegations.roles[name].unrecognized_fields["x-hillhold"] = _caps_value(caps)
    return new


def caps_of(targets: Targets, name: str) -> Caps:
    """Return what a line is allowed; raises `ProductRefused` where there is no such line."""
    roles = targets.delegations.roles if targets.delegations else None
    if not roles or name not in roles:
        raise unknown_line(name, line_names(targets))
    value: Any = roles[name].unrecognized_fields.get("x-hillhold", {})
    return Caps(
        tuple(value.get("hardware", ())), value.get("max_security_counter", 0), value.get("max_offline_grace", 0)
    )


def unknown_line(name: str, known: Sequence[str]) -> ProductRefused:
    """Return the refusal of a line that there is not: with the one that was meant, where only a letter is wrong."""
    meant = "".join(f"did you mean {close}? " for close in get_close_matches(name, known, n=1))
    hint = f"{meant}{'else ' if meant else ''}make it with `hillhold product add REPO {name} …`"
    return ProductRefused(
        "product line", expected=f"one of: {', '.join(known) or 'none yet'}", got=repr(name)[:80], hint=hint
    )


def _forget_keys(delegations: Delegations) -> None:
    """Leave out keys that no line names any more."""
    named = {keyid for role in (delegations.roles or {}).values() for keyid in role.keyids}
    delegations.keys = {keyid: key for keyid, key in delegations.keys.items() if keyid in named}


def _caps_value(caps: Caps) -> dict[str, object]:
    return {
        "hardware": sorted(set(caps.hardware)),
        "max_offline_grace": caps.max_offline_grace,
        "max_security_counter": caps.max_security_counter,
    }
