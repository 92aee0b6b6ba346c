"""What becomes of files on their way: in their fields before they are signed, in who signs, in their bytes, and in what is delivered.

A mutation is a name and a seed. `Meddler` takes several and hooks them into one publication; each picks a role among the files that are
made. What is done to bytes is done before or after the file was listed by those above it, and what is done to fields is signed by
whoever signs: honest signatures and listings around a wrong file are what lets it come as far as the check that has to refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from differ.fields import BODY, TIMED, add_field, new_value, nodes, remove_field, set_field, tweak
from differ.histories import TOP, Store
from differ.keyring import Signer, signer
from differ.written import compact
from forge import Object

# --- who signs ------------------------------------------------------------------------------------------------------


def _one_less(rng: Random, signers: list[Signer]) -> list[Signer]:
    gone = rng.randrange(len(signers)) if signers else 0
    return [one for at, one in enumerate(signers) if at != gone]


def _stranger(rng: Random, signers: list[Signer]) -> list[Signer]:
    """A stranger signs too, alone, or under the id of one who should."""
    mallory = signer("mallory")
    posing = mallory.alias(signers[0].keyid) if signers else mallory
    return rng.choice(([*signers, mallory], [mallory], [posing, *signers[1:]], [mallory, *signers]))


def _twice(rng: Random, signers: list[Signer]) -> list[Signer]:
    """One signs several times, under one id or several."""
    if not signers:
        return []
    return rng.choice(
        ([*signers, signers[0]], [signers[0]] * 2, [signers[0], *(signers[0].alias(f"id{n}") for n in range(3))])
    )


def _crowd(rng: Random, signers: list[Signer]) -> list[Signer]:
    return [*signers, *(signer("mallory").alias(f"m{n}") for n in range(rng.choice((3, 63, 64, 70))))]


SIGNERS: Final[Mapping[str, Callable[[Random, list[Signer]], list[Signer]]]] = {
    "signature less": _one_less,
    "stranger signs": _stranger,
    "one signs twice": _twice,
    "crowd signs": _crowd,
}


# --- bytes ----------------------------------------------------------------------------------------------------------


def _flip(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data)) if data else 0
    return data[:at] + bytes([data[at] ^ (1 << rng.randint(0, 7))]) + data[at + 1 :] if data else data


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _insert(rng: Random, data: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice((b"0", b" ", b'"', b"}", b"\xff", b"\x00", b",", b"\xef\xbb\xbf")) + data[at:]


def _space(rng: Random, data: bytes) -> bytes:
    return rng.choice((data + b"\n", b" " + data, data.replace(b":", b": ", 3), data.replace(b",", b",\n")))


def _again(rng: Random, data: bytes) -> bytes:
    """The same value, written otherwise."""
    value = _parsed(data)
    if rng.random() < 0.5:
        return json.dumps(value, indent=1).encode()
    return json.dumps(value, ensure_ascii=True).encode().replace(b"targets", rb"\u0074argets")


def _same_key(rng: Random, data: bytes) -> bytes:
    """A key of some object twice, with the same value or another."""
    text = data.decode(errors="replace")
    at = rng.choice([n for n, char in enumerate(text) if char == "{"] or [0])
    first = rng.choice(('"version":1,', '"signed":{},', '"_type":"root",', '"x":1,"x":2,', '"keyid":"a",'))
    return (text[: at + 1] + first + text[at + 1 :]).encode()


def _loose(rng: Random, data: bytes) -> bytes:
    """Something that is not signed, and is not what JSON implementations agree on."""
    more = rng.choice(
        ("1.5", "1e400", "NaN", str(2**64), str(-(2**53)), "[" * 17 + "]" * 17, '"\\ud800"', "9" * 5000, "[" * 99999)
    )
    return b'{"more":' + more.encode() + b"," + data[1:]


def _envelope(rng: Random, data: bytes) -> bytes:
    """The envelope around what is signed."""
    value = _parsed(data)
    if not isinstance(value, dict) or not isinstance(value.get("signatures"), list):
        return data
    act = rng.randint(0, 7)
    signatures = value["signatures"]
    if act == 0:
        value["more"] = new_value(rng)
    elif act == 1:
        value["signatures"] = rng.choice(
            (signatures[::-1], [], signatures * 2, {}, None, "", {"a": 1}, 7, signatures[:1])
        )
    elif act == 2 and signatures:
        rng.choice(signatures)["more"] = new_value(rng)
    elif act == 3 and signatures:
        rng.choice(signatures)[rng.choice(("sig", "keyid"))] = new_value(rng)
    elif act == 4 and signatures and all(isinstance(one.get("sig"), str) for one in signatures):
        one = rng.choice(signatures)
        one["sig"] = rng.choice(
            (one["sig"].upper(), one["sig"] + "00", " ".join(one["sig"]), "zz", one["sig"][:-2], " " + one["sig"])
        )
    elif act == 5 and len(signatures) > 1:
        signatures[0]["keyid"], signatures[-1]["keyid"] = signatures[-1]["keyid"], signatures[0]["keyid"]
    elif act == 6:
        value.pop(rng.choice(sorted(value)))
    elif signatures:
        signatures.append({"keyid": rng.choice((5, None, "x", "y" * 300)), "sig": rng.choice((5, "", "zz", "00"))})
    return compact(value)


def _after(rng: Random, data: bytes) -> bytes:
    """A field of what is signed, changed after it was signed."""
    value = _parsed(data)
    if not isinstance(value, dict) or not isinstance(value.get("signed"), dict):
        return data
    rng.choice((set_field, add_field, tweak, remove_field, _nulls))(rng, value["signed"])
    return compact(value)


def _nulls(rng: Random, body: Object) -> None:
    """What a reader that writes again what it read would not see."""
    objects = [body, *(c[k] for c, k in nodes(body) if isinstance(c[k], dict))]
    rng.choice(objects)[
        rng.choice(("length", "hashes", "consistent_snapshot", "delegations", "roles", "succinct_roles"))
    ] = None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


FILE: Final[Mapping[str, Callable[[Random, bytes], bytes]]] = {
    "bit flipped": _flip,
    "cut short": _cut,
    "byte inserted": _insert,
    "white space": _space,
    "written otherwise": _again,
    "key twice": _same_key,
    "loose JSON": _loose,
    "envelope": _envelope,
    "changed after signing": _after,
}


# --- what is delivered ----------------------------------------------------------------------------------------------


def _names(store: Store) -> list[tuple[str, int | None]]:
    return sorted(store, key=lambda name: (name[0], name[1] or 0))


def _missing(rng: Random, view: Store, past: list[Store]) -> None:
    del view[rng.choice(_names(view))]


def _other(rng: Random, view: Store, past: list[Store]) -> None:
    """Another file of the repository in place of one: of another role, or of the same at another version."""
    name = rng.choice(_names(view))
    same = [one for one in _names(view) if one[0] == name[0]]
    view[name] = view[rng.choice(same if rng.random() < 0.6 else _names(view))]


def _rollback(rng: Random, view: Store, past: list[Store]) -> None:
    """One role as it was served before."""
    old = rng.choice(past) if past else view
    role = rng.choice((*TOP[1:], rng.choice(_names(old))[0]))
    view.update({name: data for name, data in old.items() if name[0] == role})


def _freeze(rng: Random, view: Store, past: list[Store]) -> None:
    """All as it was served before, with or without root."""
    if not past:
        return
    old = rng.choice(past)
    roots = {name: data for name, data in view.items() if name[0] == "root"}
    view.clear()
    view.update(old)
    if rng.random() < 0.6:
        view.update(roots)


def _root_order(rng: Random, view: Store, past: list[Store]) -> None:
    """A root under the number of another, or one that stands in for those between."""
    numbers = sorted(number for role, number in view if role == "root" and number)
    if len(numbers) > 1:
        view["root", rng.choice(numbers[1:])] = view["root", rng.choice(numbers)]
    if rng.random() < 0.5:
        view["root", numbers[-1] + 1 if numbers else 2] = view["root", rng.choice(numbers)] if numbers else b"{}"


def _mixed(rng: Random, view: Store, past: list[Store]) -> None:
    """Some roles of before, some of now: a mix that never was."""
    if past:
        old = rng.choice(past)
        view.update({name: data for name, data in old.items() if name[0] != "root" and rng.random() < 0.5})


DELIVERY: Final[Mapping[str, Callable[[Random, Store, list[Store]], None]]] = {
    "missing": _missing,
    "another file": _other,
    "rollback": _rollback,
    "freeze": _freeze,
    "roots out of order": _root_order,
    "mix and match": _mixed,
}
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "listing": ("timestamp", "snapshot"),
    "issued": ("timestamp",),
    "role": ("root", "targets"),
}
"""Where a mutation has most to say, if such a file is made."""
MUTATIONS: Final = (*BODY, *TIMED, *SIGNERS, *FILE, *DELIVERY)


@dataclass
class Planned:
    """A mutation and the role that it is for."""

    name: str
    rng: Random
    role: str
    listed: bool


class Meddler:
    """Hooks that carry mutations into one publication of `roles`; `now` in Unix seconds."""

    def __init__(self, mutations: list[tuple[str, int]], roles: list[str], now: int) -> None:
        self.now = now
        self.planned = []
        for name, seed in mutations:
            rng = Random(seed)
            fitting = [role for role in roles if role in ROLES.get(name, roles)]
            self.planned.append(Planned(name, rng, rng.choice(fitting or roles), rng.random() < 0.7))

    def body(self, role: str, body: Object) -> Object:
        planned = self._for(role)
        if planned:
            body = json.loads(compact(body))  # a copy: the repository's own fields are not meddled with
        for one in planned:
            if one.name in BODY and nodes(body):
                BODY[one.name](one.rng, body)
            elif one.name in TIMED:
                TIMED[one.name](one.rng, body, self.now)
        return body

    def signers(self, role: str, signers: list[Signer]) -> list[Signer]:
        for one in self._for(role):
            if one.name in SIGNERS:
                signers = SIGNERS[one.name](one.rng, signers)
        return signers

    def listed(self, role: str, data: bytes) -> bytes:
        return self._bytes(role, data, True)

    def served(self, role: str, data: bytes) -> bytes:
        return self._bytes(role, data, False)

    def deliver(self, view: Store, past: list[Store]) -> None:
        """Change what a client is given, of `view`; `past` is what was given before."""
        for one in self.planned:
            if one.name in DELIVERY and view:
                DELIVERY[one.name](one.rng, view, past)

    def _bytes(self, role: str, data: bytes, listed: bool) -> bytes:
        for one in self._for(role):
            if one.name in FILE and one.listed is listed:
                data = FILE[one.name](one.rng, data)
        return data

    def _for(self, role: str) -> list[Planned]:
        return [one for one in self.planned if one.role == role]
