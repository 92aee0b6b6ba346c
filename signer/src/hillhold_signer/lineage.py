"""Which draft of a role counts, where several lie side by side.

Each draft says what it comes after. A draft that another comes after is replaced, and so is one that was published, or that what was
published came after. What is left are the *heads*: one, where people worked in turn; several, where they worked at once in two copies of a
repository; and perhaps one that was made while another was published. Heads, and what is published where none of them grew from it, are
merged (`merging`) against the newest draft or version that they have in common. Nobody has to be asked, and the same files give the
same bytes on every machine.

What cannot be merged is a clash, which a person ends with `hillhold drop`. What grew from something that is here no more is one, too:
merged with nothing in common, a release that was removed would come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hillhold_signer.drafts import Node, parse_signed
from hillhold_signer.errors import MergeRefused, ReleaseRefused, SignerRefused
from hillhold_signer.merging import Value, check_releases, merge

TOP: Final = ("root", "targets")


@dataclass(frozen=True, slots=True)
class Settled:
    """What the drafts of a role come to.

    Attributes:
        value: the JSON of the next version, or None where nothing is drafted.
        after: what the next draft comes after.
        merged: the value stands in no file yet.
        heads: the drafts that nothing has replaced.
        replaced: digests of unpublished drafts that others came after, or that were merged.
        done: names of drafts that the published version covers.
    """

    value: Value | None
    after: tuple[str, ...]
    merged: bool
    heads: tuple[Node, ...]
    replaced: frozenset[str]
    done: frozenset[str]


@dataclass(frozen=True, slots=True)
class Published:
    """The published version of a role, and a way to the ones before it, by number.

    Attributes:
        digest: SHA-256 of its signed bytes.
        older: returns the JSON and digest of `signed` of a version, or None.
    """

    value: Value
    digest: str
    older: Callable[[int], tuple[Value, str] | None]

    @property
    def version(self) -> int:
        """Its number."""
        return int(self.value["version"])


class Lineage:
    """The drafts of one role, and what is published of it."""

    def __init__(self, role: str, nodes: Mapping[str, Node], published: Published | None) -> None:
        self._role, self._nodes, self._published = role, nodes, published
        self._named: dict[str, list[str]] = {}
        for node in nodes.values():
            self._named.setdefault(node.digest, []).append(node.name)
        self.done = self._before(published.digest) if published else frozenset()
        replaced: set[str] = set()
        for node in nodes.values():
            replaced |= self._before(node.name) - {node.name}
        left = [
            node for name, node in nodes.items() if name not in self.done | replaced and not self._was_published(node)
        ]
        self.heads = tuple(sorted(left, key=lambda node: node.name))

    def settle(self) -> Settled:
        """Return what the drafts come to.

        Raises:
            MergeRefused: the heads do not go together.
        """
        published, heads = self._published, self.heads
        number = published.version + 1 if published else 1
        origin = (published.digest,) if published else ()
        names = tuple(node.name for node in heads)
        if not heads:
            return Settled(None, origin, False, (), frozenset(), self.done & self._nodes.keys())
        before, out = [self._before(name) for name in names], self._origin()
        # Who gave up what somebody published has not seen that version either, whatever the files say comes after what.
        dropped = any(side & out and not self._grown(name) & out for name, side in zip(names, before, strict=True))
        aside = published is not None and (dropped or not any(side & out for side in before))
        value: Value = heads[0].value
        merged = aside or heads[0].version != number or len({node.digest for node in heads}) > 1
        if merged:
            sides = [(side, node.value, node.digest) for side, node in zip(before, heads, strict=True)]
            value = self._fold(sides)
            if aside and published is not None:
                ground = frozenset.intersection(*map(self._grown, names)) if dropped else frozenset().union(*before)
                label = "+".join(node.digest[:16] for node in heads)
                value = self._fold([(ground, value, label), (self.done, published.value, published.digest)])
            value = {**value, "version": number}
        after = (*names, *origin) if aside else names
        if published is not None and {**value, "version": 0} == {**published.value, "version": 0}:
            return Settled(None, after, False, heads, self._replaced(), self.done & self._nodes.keys())
        return Settled(value, after, merged, heads, self._replaced(), self.done & self._nodes.keys())

    def head(self, digest: str) -> Node:
        """Return the head whose digest begins like that; raises `MergeRefused` where there is none, or where there are several."""
        found = {node.digest: node for node in self.heads if node.digest.startswith(digest)}
        if not self.heads:
            raise MergeRefused(f"{self._role}: nothing is drafted")
        if len(found) != 1:
            known = ", ".join(sorted({node.digest[:16] for node in self.heads}))
            raise MergeRefused(f"draft of {self._role}", expected=f"one of {known}", got=repr(digest)[:66])
        return next(iter(found.values()))

    def drop(self, digest: str) -> tuple[Value, tuple[str, ...]]:
        """Return the draft to write so that the head whose digest begins like that counts no more, and what it comes after.

        Raises:
            MergeRefused: no such head, or nothing would be left: a first version cannot be dropped.
        """
        digest = self.head(digest).digest
        gone = [node for node in self.heads if node.digest == digest]
        names = tuple(node.name for node in gone)
        if others := [node for node in self.heads if node not in gone]:
            return others[0].value, (*names, others[0].name)
        if self._published is None:
            hint = "it is the first version of its role: change it instead"
            raise MergeRefused(
                f"draft of {self._role}", expected="a published version to go back to", got="none", hint=hint
            )
        return {**self._published.value, "version": self._published.version + 1}, (*names, self._published.digest)

    def _fold(self, sides: list[tuple[frozenset[str], Value, str]]) -> Value:
        before, value, digest = sides[0]
        label = digest[:16]
        for other_before, other, other_label in sides[1:]:
            if {**value, "version": 0} != {**other, "version": 0}:
                try:
                    value = self._merge(self._base(before, other_before), value, other)
                except (MergeRefused, ReleaseRefused) as error:
                    raise self._clash(error, label, other_label) from error
            before, label = before | other_before, f"{label} with {other_label[:16]}"
        return value

    def _merge(self, base: Value | None, left: Value, right: Value) -> Value:
        for value in (base, left, right):
            if value is not None:
                parse_signed(value, self._role)  # what follows relies on its shape
        result = merge(base, left, right)
        if self._role not in TOP:
            check_releases(self._role, base, left, right)
        return result

    def _clash(self, error: SignerRefused, left: str, right: str) -> MergeRefused:
        what = f"drafts {left} and {right[:16]} of {self._role} do not go together: {error.what}"
        known = sorted({node.digest[:16] for node in self.heads})
        hint = f"drop one, and make its other changes again: `hillhold drop REPO {self._role} {known[0]}`"
        if len(known) > 1:
            hint = f"{hint[:-1]}` or `… {'` or `… '.join(known[1:])}`"
        return MergeRefused(what, expected=error.expected, got=error.got, hint=hint)

    def _base(self, left: frozenset[str], right: frozenset[str]) -> Value | None:
        """The newest thing that both grew from; None where both are first versions, made independently."""
        common = left & right
        newest = sorted(name for name in common if not any(name in self._before(other) for other in common - {name}))
        values = [self._value(name) for name in newest]
        if not common and all(name in self._nodes for name in left | right):
            return None
        if not values or any(value is None for value in values):
            raise MergeRefused("origin", expected="the draft or version that both grew from", got="none that is here")
        return values[0]

    def _value(self, name: str) -> Value | None:
        if name in self._nodes:
            return self._nodes[name].value
        if self._published is None:
            return None
        if name == self._published.digest:
            return self._published.value
        numbers = {node.version - 1 for node in self._nodes.values() if name in node.after}
        found = [self._published.older(number) for number in sorted(numbers)]
        return next((item[0] for item in found if item is not None and item[1] == name), None)

    def _before(self, name: str) -> frozenset[str]:
        """A draft or published version, and all that it came after, as far as it is known here."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            item = todo.pop()
            if item not in seen:
                seen.add(item)
                todo += self._nodes[item].after if item in self._nodes else self._named.get(item, ())
        return frozenset(seen)

    def _grown(self, name: str) -> frozenset[str]:
        """As `_before`, but for what was given up (`drop`): nobody built on that."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            item = todo.pop()
            if item not in seen:
                seen.add(item)
                node = self._nodes.get(item)
                todo += self._kept(node) if node else self._named.get(item, ())
        return frozenset(seen)

    def _kept(self, node: Node) -> tuple[str, ...]:
        """What a draft comes after and did not give up: one that is, but for its number, one of several has only that one."""
        if len(node.after) > 1:
            for name in node.after:
                value = self._value(name)
                if value is not None and {**value, "version": 0} == {**node.value, "version": 0}:
                    return (name,)
        return node.after

    def _origin(self) -> frozenset[str]:
        """The published version, under each name that a draft may call it by."""
        digest = self._published.digest if self._published else ""
        return frozenset((digest, *self._named.get(digest, ())))

    def _replaced(self) -> frozenset[str]:
        return frozenset(node.digest for name, node in self._nodes.items() if name not in self.done)

    def _was_published(self, node: Node) -> bool:
        """Whether an older publication, whose own drafts are gone, was of exactly this draft."""
        if self._published is None or node.version >= self._published.version:
            return False
        found = self._published.older(node.version)
        return found is not None and found[1] == node.digest
