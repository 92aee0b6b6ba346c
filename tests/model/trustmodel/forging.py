"""The model's files as real metadata, and its images as real MCUboot images, signed by keys that follow from their names.

One unit of the model's time is a day; a file that expires at time t does so at noon, so that it is still good at t. An evil image is signed
with the key that boards hold: the model's attacker, who holds a line's keys, is as strong as that on a board whose images are raw.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256

from forge import DAY, MAX_VERSION, T0, Repo, SigningKey, canon, ecdsa_key, key
from hillhold_verifier.keys import SCHEMES, Key
from offers import image as mcuboot_image
from offers import offer
from trustmodel.config import Config
from trustmodel.device import Floor, Rules
from trustmodel.files import HIGHEST, IMAGES, VERSION, File, Line, Quorum, Root, Snapshot, Targets, Timestamp

LATEST = 27_000
"""Days until the model's highest time: the year 2099."""
MOST_KEYS = 8
IMAGE_LENGTH = 600
UNKNOWN = canon({"signed": {"version": MAX_VERSION}})
"""A file that is listed, and that nobody has."""


def seconds(time: int) -> int:
    """A time of the model in Unix seconds."""
    return T0 + _days(time)


def _days(time: int) -> int:
    return (LATEST if time == HIGHEST else time) * DAY


def _expiry(time: int) -> int:
    return seconds(time) + DAY // 2


def _version(number: int) -> int:
    return MAX_VERSION if number == HIGHEST else number


def release_version(number: int) -> str:
    """The version of an image, as a release states it."""
    return f"{number}.0.0"


class Forging:
    """Makes the bytes of one configuration's files and images, each once."""

    def __init__(self, config: Config) -> None:
        self._repo = Repo()
        self._counters = Rules(config).counters
        self._made: dict[File, bytes] = {}
        self._said: dict[File, bytes] = {}
        self.images = {image: self._image(image) for image in IMAGES}
        self.image_of = {sha256(data).digest(): image for image, data in self.images.items()}

    def bytes_of(self, file: File) -> bytes:
        if file not in self._made:
            self._made[file] = self._make(file)
        return self._made[file]

    def payload_of(self, file: File) -> bytes:
        """SHA-256 of what a file says, apart from its signatures."""
        if file not in self._said:
            self._said[file] = sha256(canon(json.loads(self.bytes_of(file))["signed"])).digest()
        return self._said[file]

    def _image(self, image: int) -> bytes:
        return mcuboot_image(release_version(VERSION[image]), self._counters[image], length=IMAGE_LENGTH)

    def _make(self, file: File) -> bytes:
        match file:
            case Root():
                return self._root(file)
            case Timestamp():
                listed = self.bytes_of(file.snapshot) if file.snapshot else UNKNOWN
                return self._repo.timestamp(
                    version=_version(file.version),
                    expires=_expiry(file.expires),
                    issued=seconds(file.issued),
                    snapshot=listed,
                    signers=names("timestamp", file.signers),
                )
            case Snapshot():
                return self._repo.snapshot(
                    version=_version(file.version),
                    expires=_expiry(file.expires),
                    targets=self.bytes_of(file.targets) if file.targets else UNKNOWN,
                    line=self.bytes_of(file.line) if file.line else UNKNOWN,
                    signers=names("snapshot", file.signers),
                )
            case Targets():
                self._delegate(file.line)
                self._repo.max_security_counter = file.counter_limit
                self._repo.max_offline_grace = _days(file.grace_limit)
                return self._repo.targets(
                    version=file.version, expires=_expiry(file.expires), signers=[key("targets-1")]
                )
            case Line():
                return self._line(file)

    def _root(self, root: Root) -> bytes:
        """A root of the new algorithm has a root key of it; the quorum before signs too, as for every root."""
        own = [ecdsa_key("root-1")] if root.algorithm else [key("root-1")]
        return self._repo.root(
            keys={
                "root": own,
                "timestamp": names("timestamp", root.timestamp.keys),
                "snapshot": names("snapshot", root.snapshot.keys),
                "targets": [key("targets-1")],
            },
            thresholds={
                "root": 1,
                "timestamp": root.timestamp.threshold,
                "snapshot": root.snapshot.threshold,
                "targets": 1,
            },
            version=root.version,
            expires=_expiry(root.expires),
            signers=[key("root-1"), *own[: root.algorithm]],
        )

    def _delegate(self, line: Quorum) -> None:
        self._repo.keys["line"], self._repo.thresholds["line"] = names("line", line.keys), line.threshold

    def _line(self, line: Line) -> bytes:
        self._repo.entries.clear()
        for image, withdrawn, steps_down_from in line.releases:
            said: dict[str, object] = {"withdrawn": "it is not to be installed" if withdrawn else None}
            said["downgrade_from"] = sorted(map(release_version, steps_down_from)) or None
            version = release_version(VERSION[image])
            offer(self._repo, version, self._counters[image], data=self.images[image], **said)
        self._repo.offline_grace = _days(line.grace)
        return self._repo.line(
            version=_version(line.version), expires=_expiry(line.expires), signers=names("line", line.signers)
        )


def names(role: str, keys: int) -> list[SigningKey]:
    """The keys of a role that a set of the model names."""
    return [key(f"{role}-{number + 1}") for number in range(MOST_KEYS) if keys >> number & 1]


@cache
def _fingerprints(role: str) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for number in range(MOST_KEYS):
        entry = key(f"{role}-{number + 1}").entry
        fingerprint = Key(entry["keytype"], entry["scheme"], entry["keyval"]["public"]).fingerprint(SCHEMES)
        assert fingerprint is not None
        found[fingerprint] = 1 << number
    return found


def model_floor(role: str, value: int, keys: frozenset[bytes]) -> Floor:
    """A real floor, as the model has it."""
    number = HIGHEST if value == MAX_VERSION else value
    return ((number, sum(_fingerprints(role)[fingerprint] for fingerprint in keys)),)


def model_time(time: int) -> int:
    """Unix seconds as a time of the model; whatever lies before its beginning is its beginning."""
    days = max(0, time - T0) // DAY
    return HIGHEST if days == LATEST else days
