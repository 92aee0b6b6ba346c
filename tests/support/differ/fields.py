"""What may become of the fields of a file before it is signed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from differ.keyring import signer
from forge import DAY, Object, date

VALUES: Final = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 2**53 - 1, 2**53, 2**70, 1.5, 1.0),
    *("", "x", "1", "root", "a", "0" * 64, "0" * 128, "A" * 64, "x" * 257, "é", "1.0.31", "2.0", "1.0.0.0"),
    *(
        "2030-01-01T00:00:00Z",
        "2030-1-1T0:0:0Z",
        "2030-01-01t00:00:00z",
        "0999-01-01T00:00:00Z",
        "2030-02-30T00:00:00Z",
    ),
)
"""What a field is set to; some fit somewhere."""


def nodes(value: object) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as its container and key."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        found += nodes(item)
    return found


def new_value(rng: Random) -> object:
    """A new value each time: what is put into two files must not be shared."""
    return rng.choice(
        (*VALUES, [], {}, [1], ["a", "a"], {"a": 1}, {"sha256": "0" * 64}, [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]])
    )


# --- fields of what is signed; each edits `body` --------------------------------------------------------------------


def remove_field(rng: Random, body: Object) -> None:
    container, key = rng.choice(nodes(body))
    del container[key]


def set_field(rng: Random, body: Object) -> None:
    container, key = rng.choice(nodes(body))
    container[key] = new_value(rng)


def add_field(rng: Random, body: Object) -> None:
    objects = [body, *(c[k] for c, k in nodes(body) if isinstance(c[k], dict))]
    names = (
        "more",
        "length",
        "hashes",
        "custom",
        "succinct_roles",
        "x-hillhold",
        "x-hillhold-issued",
        "x-hillhold-offline-grace",
    )
    rng.choice(objects)[rng.choice(names)] = new_value(rng)


def tweak(rng: Random, body: Object) -> None:
    """A number one up or down, a text a little other, an array turned or with an item twice."""
    container, key = rng.choice(nodes(body))
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int):
        container[key] = value + rng.choice((-1, 1))
    elif isinstance(value, str):
        at = rng.randint(0, len(value))
        container[key] = rng.choice(
            (value.upper(), value + " ", f" {value}", value[:at] + "0" + value[at + 1 :], value[:-1])
        )
    elif isinstance(value, list) and value:
        container[key] = rng.choice((value[::-1], [*value, value[0]], value[:-1]))
    elif isinstance(value, dict):
        value["x-more"] = 1


def _version(rng: Random, body: Object) -> None:
    was = body.get("version")
    number = was if isinstance(was, int) else 1
    body["version"] = rng.choice((1, number - 1, number + 1, number + 2, 2**53 - 1, 2**53, 0))


def _expires(rng: Random, body: Object, now: int) -> None:
    body["expires"] = date(now + rng.choice((-DAY, -1, 0, 1, 2, DAY, 9 * DAY)))


def _issued(rng: Random, body: Object, now: int) -> None:
    """A statement of when a timestamp was signed, true or from the future."""
    body["x-hillhold-issued"] = date(now + rng.choice((-DAY, 0, 1, DAY, 5 * DAY, 400 * DAY)))


def _is_object(value: object) -> bool:
    """An earlier mutation may have put anything there."""
    return isinstance(value, dict)


def _role(rng: Random, body: Object) -> None:
    """The terms of one role: threshold, key ids, keys."""
    below = body if "roles" in body else body.get("delegations", {})
    if not isinstance(below, dict):
        return
    roles = below.get("roles", below.get("succinct_roles"))
    if not isinstance(roles, dict | list) or not roles:
        return
    role = rng.choice(sorted(roles.values(), key=str) if isinstance(roles, dict) else roles)
    keys = below.get("keys")
    if not isinstance(role, dict) or not isinstance(keys, dict) or not keys or not all(map(_is_object, keys.values())):
        return
    act = rng.randint(0, 7)
    if act == 7 and isinstance(roles, dict):
        roles["mirrors"] = rng.choice(({"keyids": [], "threshold": 1}, {}, 7))
    elif act in (0, 7):
        role["threshold"] = rng.choice((0, 1, 2, 3, 4))
    elif act == 1:
        role["keyids"] = rng.choice(([], ["nobody"], ["nobody", *keys], sorted(keys)))
    elif act == 2:
        role["terminating"] = rng.choice((True, False, 1))
    elif act == 3:
        rng.choice(sorted(keys.items()))[1]["keyval"] = {
            "public": rng.choice(("", "00", "zz" * 32, "0" * 64, "F" * 64))
        }
    elif act == 4:
        rng.choice(sorted(keys.items()))[1]["scheme"] = rng.choice(
            ("ed448", "rsassa-pss-sha512", "ecdsa-sha2-nistp256")
        )
    elif act == 5:
        keys["mallory"] = signer("mallory").entry
        role["keyids"] = ["mallory"]
    else:
        rng.choice(sorted(keys.items()))[1]["keyval"] = rng.choice(({}, {"public": 7}, {"x": 1}))


def _listing(rng: Random, body: Object) -> None:
    """What a lister says of a file, or of none."""
    meta = body.get("meta")
    if not isinstance(meta, dict) or not meta:
        return
    name = rng.choice(sorted(meta))
    if not isinstance(meta[name], dict):
        return
    act = rng.randint(0, 6)
    if act == 0:
        meta[rng.choice(("other.json", "other", "x/y.json", "targets"))] = rng.choice(
            ({"version": 1}, {"version": "1"}, 7)
        )
    elif act == 1:
        meta[name]["hashes"] = rng.choice(({}, {"sha256": "0" * 64}, {"md5": "0" * 32}, {"sha256": "AB"}, {"new": "0"}))
    elif act == 2:
        meta[name]["hashes"] = {"sha256": "0" * 64, **(meta[name].get("hashes") or {}), "md5": "0" * 32}
    elif act == 3:
        meta[name]["length"] = rng.choice((0, 1, 10**6, 10**9))
    elif act == 4:
        meta[name]["version"] = rng.choice((1, 2, 3, 4, 2**53 - 1))
    elif act == 5:
        del meta[name]
    else:
        meta[name].pop("hashes", None)


def _own(rng: Random, body: Object) -> None:
    """Hillhold's own fields, well formed or not."""
    natural = rng.choice((0, 60, 2**40, -1, "1", True, None))
    if body.get("_type") == "timestamp":
        body["x-hillhold-issued"] = rng.choice(
            (None, "now", 7, "2020-01-01T00:00:00Z", "2020-01-01", "2020-01-01T00:00:00z")
        )
        return
    below = body.get("delegations")
    roles = below.get("roles") if isinstance(below, dict) else None
    if roles and rng.random() < 0.6:
        caps: tuple[object, ...] = (
            {"hardware": rng.choice((["a"], "a", [1], []))},
            {"max_offline_grace": natural},
            {"max_security_counter": natural},
            {},
            7,
        )
        rng.choice(roles)["x-hillhold"] = rng.choice(caps)
    else:
        body["x-hillhold-offline-grace"] = natural


BODY: Final[Mapping[str, Callable[[Random, Object], None]]] = {
    "field removed": remove_field,
    "field set": set_field,
    "field added": add_field,
    "field tweaked": tweak,
    "version": _version,
    "role": _role,
    "listing": _listing,
    "own field": _own,
}
TIMED: Final[Mapping[str, Callable[[Random, Object, int], None]]] = {"expires": _expires, "issued": _issued}
