"""The lab as a maker: a test root whose keys follow from a seed, and a repository that goes on from what a board holds.

Root version N is a function of seed and N: the same root keys for ever, and for each N other keys of all other roles. So a campaign on a
board may be interrupted and go on, or another may follow: the board says which root it holds, and by that its maker knows every key that
counts. Taking the next root (`rotate`) replaces all keys of timestamp, snapshot, targets and line, with which their floors fall: it ends
whatever a thief signed.

Whoever knows the seed has all keys. A board that trusts such a root is a board under test, and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from hillhold_bootsim.lab.forge import DAY, YEAR, Object, Repo, SigningKey, key
from hillhold_bootsim.lab.images import Plan, Private, image_key, make_image, payload, public_key, public_pem
from hillhold_signer.patches import make_patch
from hillhold_verifier.errors import ImageError, OperationalError
from hillhold_verifier.mcuboot import HEADER_SIZE, ImageKey, parse_image
from hillhold_verifier.patch import ALGORITHM
from hillhold_verifier.select import Device

NEVER: Final[Mapping[str, int]] = MappingProxyType({})
FILE: Final = "app.bin"
FIRMWARE: Final = 2600
"""Bytes of an image's payload where no real firmware is given: more than a sector of a small part."""
FAR: Final = 2**40
"""A version that nobody comes to by counting: whoever states a higher one was not honest."""
MAX_ROOT: Final = 100_000
"""The highest root that a board may have been led to honestly: the lab makes all of them anew when it meets the board."""
ROOT_EXPIRES: Final = 4_102_444_800
"""2100-01-01: a root of the lab must be the same bytes whenever it is made."""
MAX_REVISION: Final = 999
COUNTERS: Final = 1000
"""The highest security counter that the lab lets its line use: beyond it is an attack."""
ALL: Final = ("targets", "line", "snapshot", "timestamp")
"""The roles below root."""
TOP: Final = "TOP"
"""What attackers call their images: a version above all of the lab's own, whatever that is now (`House.top`)."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the lab.

    Attributes:
        path: its name in metadata.
        data: the image, for the first component.
        others: the images for the other components, of a set.
    """

    version: str
    path: str
    data: bytes
    counter: int = 1
    others: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """What a board says that it holds.

    Attributes:
        root: version of its root.
        versions: of timestamp, snapshot, targets and line.
        version: of the image that is confirmed; "" without one.
        counter: its security counter.
    """

    root: int
    versions: tuple[int, ...] = (0, 0, 0, 0)
    version: str = ""
    counter: int = 0


class House:
    """Keys, repository and images of the lab, for one board.

    Args:
        seed: of all keys and of the firmware.
        device: what the board is.
        now: Unix seconds.
        firmware: real code, where the board runs what it is sent.
        header: bytes of the image's header with its filler.

    Attributes:
        repo: what is published; its `tree` is what a courier carries.
        known: the version of each image that was ever made here, by the SHA-256 of its bytes, in hexadecimal.
        by_image_hash: that SHA-256 by the hash in the image, by which SMP names it.
        counter: the security counter of honest releases.
    """

    def __init__(
        self, seed: int, device: Device, now: int, *, firmware: bytes = b"", header: int = HEADER_SIZE
    ) -> None:
        self.seed, self.device, self.now = seed, device, now
        self._firmware, self._header = firmware, header
        self.image_key: Private = image_key(f"{seed}/held")
        self.known: dict[str, str] = {}
        self.by_image_hash: dict[bytes, str] = {}
        self.counter = 1
        self._last = (1, 0, 0)
        self.repo = Repo(device.product, (device.hardware,))
        self.repo.max_security_counter = COUNTERS
        self.repo.offline_grace = 0
        self._take_keys(1)
        self._date()
        self.repo.publish(*ALL)

    # --- what a board is provisioned with -----------------------------------------------------------------------------

    @property
    def first_root(self) -> bytes:
        """The root that a board under test has to trust."""
        return self._root(1)

    @property
    def boot_key(self) -> ImageKey:
        """The key that its bootloader has to hold."""
        return public_key(self.image_key)

    @property
    def boot_pem(self) -> bytes:
        """That key in PEM."""
        return public_pem(self.image_key)

    # --- going on -----------------------------------------------------------------------------------------------------

    def go_on(self, held: Held, now: int) -> None:
        """Take the repository to where a board is: what is published next is new to it. Now, nothing is but a root, at need.

        Raises:
            OperationalError: the board holds a root that no lab came to.
        """
        if held.root > MAX_ROOT:
            raise OperationalError(
                f"root version: expected at most {MAX_ROOT}, which a lab may have come to, got {held.root}"
            )
        self.now = now
        repo = self.repo
        if held.root > repo.versions["root"]:
            self._take_keys(held.root)
        for role, version in zip(("timestamp", "snapshot", "targets", "line"), held.versions, strict=True):
            if version < FAR:
                repo.versions[role] = max(repo.versions[role], version)
        if held.version:
            self._last = max(self._last, _numbers(held.version))
        self.counter = max(self.counter, held.counter)
        self._date()
        if max(held.versions) >= FAR:
            self.rotate()

    def rotate(self, expires: Mapping[str, int] = NEVER) -> None:
        """Publish the next root, and with it new keys for every role but root; `expires`: as of `publish`."""
        self._take_keys(self.repo.versions["root"] + 1, expires.get("root", ROOT_EXPIRES))
        self.publish(expires=expires)

    def publish(self, *roles: str, expires: Mapping[str, int] = NEVER) -> None:
        """Publish all roles below root, or `roles`, with dates as of now; `expires`: Unix seconds by role, where it is another date."""
        self._date()
        self.repo.expires.update(expires)
        self.repo.publish(*(roles or ALL))

    # --- releases -----------------------------------------------------------------------------------------------------

    @property
    def top(self) -> str:
        """A version above all of the lab's own."""
        return f"{self._last[0] + 1}.0.0"

    def next_version(self) -> str:
        """Return a version above all before."""
        major, minor, revision = self._last
        self._last = (major, minor, revision + 1) if revision < MAX_REVISION else (major, minor + 1, 0)
        return ".".join(map(str, self._last))

    def skip_to(self, revision: int) -> None:
        """Have the next version end in this number, if none of a higher one was released."""
        major, minor, last = self._last
        self._last = (major, minor, max(last, revision - 1))

    def image(
        self, version: str, counter: int | None = None, *, key: Private | None = None, tail: str = "", **more: object
    ) -> bytes:
        """Return a signed image, by default by the lab's key and with the counter of honest releases.

        Args:
            tail: images of one version that differ in this have the same length, and other last bytes.
            more: see `images.Plan`.
        """
        counter, number = self.counter if counter is None else counter, self._number(version)
        code = payload(str(self.seed), number + tail, FIRMWARE, self._firmware)
        plan = Plan(number, counter, header=self._header, **more)  # type: ignore[arg-type]
        return self.keep(make_image(code, plan, key or self.image_key), version)

    def keep(self, image: bytes, version: str) -> bytes:
        """Know an image from now on, whoever made it; return it."""
        digest = sha256(image).hexdigest()
        self.known[digest] = version
        with suppress(ImageError):
            self.by_image_hash[parse_image(image).sha256] = digest
        return image

    def offer(
        self, repo: Repo, version: str, data: bytes, counter: int, *, component: int = 0, **custom: object
    ) -> str:
        """List an image as a release in a repository, honest or not; return its path. Nothing is published."""
        names = self.device.components
        named: Object = {} if names[component] == "app" else {"component": names[component]}
        file = FILE if component == 0 else f"{names[component]}.bin"
        path = repo.add_release(self._number(version), data, counter=counter, file=file)
        repo.change(path, **{"format": "mcuboot", **named, **custom})
        return path

    def release(
        self,
        counter: int | None = None,
        *,
        base: Release | None = None,
        whole: bool = False,
        expires: Mapping[str, int] = NEVER,
    ) -> Release:
        """List the next honest release in place of all before, and publish it.

        Args:
            counter: its security counter, by default the board's.
            base: with a patch from this one.
            whole: for all components, as a set; else for the first alone.
            expires: see `publish`.
        """
        self.counter = max(self.counter, counter or 0)
        version = self.next_version()
        data = self.image(version, self.counter)
        path = self._list(version, data)
        others = tuple(self.image(version, tail=name) for name in self.device.components[1:]) if whole else ()
        if others:
            for component, other in enumerate(others, 1):
                self.offer(self.repo, version, other, self.counter, component=component)
            for each in self.repo.entries:
                self.repo.change(each, set=f"lab-{version}")
        if base:
            self.repo.add_patch(path, base.data, make_patch(base.data, data), algorithm=ALGORITHM)
        self.publish(expires=expires)
        return Release(version, path, data, self.counter, others)

    def evil(self, repo: Repo) -> bytes:
        """List the attacker's image in a repository: signed by the lab's image key, above all versions, and nobody's release."""
        data = self.image(TOP)
        self.offer(repo, TOP, data, self.counter)
        return data

    def back(self, release: Release, above: Release) -> None:
        """Publish an older release in place of all others, as one that a board may step down to from the one above."""
        self._list(release.version, release.data, downgrade_from=[above.version])
        self.publish()

    def _list(self, version: str, data: bytes, **custom: object) -> str:
        """List a release in place of all before; return its path."""
        self.repo.entries.clear()
        self.repo.blobs.clear()
        path = self.offer(self.repo, version, data, self.counter)
        self.repo.change(path, **custom)
        return path

    def thief(self) -> Repo:
        """Return a copy of the repository with all its keys: what is done with it is nobody's word but a thief's."""
        return copy.deepcopy(self.repo)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _number(self, version: str) -> str:
        return self.top if version == TOP else version

    def key(self, name: str) -> SigningKey:
        """Return the key of that name, of this seed."""
        return key(f"hillhold lab {self.seed}: {name}")

    def strangers(self, count: int = 2) -> list[SigningKey]:
        """Return keys that no role has."""
        return [self.key(f"stranger-{number}") for number in range(count)]

    def keys_of(self, root: int) -> dict[str, list[SigningKey]]:
        """Return the keys of all roles under the root of that version."""
        three = (1, 2, 3)
        return {
            "root": [self.key(f"root-{n}") for n in three],
            "timestamp": [self.key(f"timestamp/{root}")],
            "snapshot": [self.key(f"snapshot/{root}")],
            "targets": [self.key(f"targets-{n}/{root}") for n in three],
            "line": [self.key(f"line-{n}/{root}") for n in three],
        }

    def _root(self, version: int, expires: int = ROOT_EXPIRES) -> bytes:
        keys = self.keys_of(version)
        return self.repo.root(version=version, keys=keys, expires=expires, signers=keys["root"][:2])

    def _take_keys(self, root: int, expires: int = ROOT_EXPIRES) -> None:
        """Have the root of that version, and the ones before it in the tree."""
        repo = self.repo
        repo.keys = self.keys_of(root)
        repo.expires["root"] = ROOT_EXPIRES
        for version in range(max(1, repo.versions["root"]), root):
            repo.tree[f"metadata/{version}.root.json"] = self._root(version)
        repo.publish("root", root=self._root(root, expires))

    def _date(self) -> None:
        repo = self.repo
        repo.issued = self.now
        repo.expires |= {
            "timestamp": self.now + 7 * DAY,
            "snapshot": self.now + 30 * DAY,
            "targets": self.now + YEAR,
            "line": self.now + YEAR,
        }


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, revision = (int(part) for part in version.partition("+")[0].split("."))
    return major, minor, revision
