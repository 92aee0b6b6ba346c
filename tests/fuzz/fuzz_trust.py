"""Fuzz targets for the session and the client: a repository goes through its life by the fuzzer's choice, and devices take its files.

Files are edited before they are signed, by the right keys, a thief's or too few, and listed honestly or not, so that what is tried lies
behind the signature check. A `Witness` judges everything that is accepted a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from forge import DAY, MAX_VERSION, T0, YEAR, Repo, SigningKey, key, version_of
from fuzz_input import Input, altered
from fuzz_witness import TOP, Witness, signed_of, signers, valid
from hillhold_verifier.client import MAX_DELEGATIONS, Client
from hillhold_verifier.errors import MisuseError, Refused
from hillhold_verifier.metadata import Envelope, parse_root
from hillhold_verifier.release import Version
from hillhold_verifier.roles import Targets
from hillhold_verifier.select import Device, Installed, Selection
from hillhold_verifier.session import MAX_ROOTS, Step, UpdateSession
from hillhold_verifier.state import DeviceState, decode_record, encode_record
from hillhold_verifier.trust import Trust, current

DEVICE: Final = Device("pump", "nrf-a", "serial-1")
RUNS: Final = Installed("pump/1.0.0/app.bin", Version(1, 0, 0), b"\1" * 32, 5, 3)
ROLES: Final = ("root", "timestamp", "snapshot", "targets", "line")
BELOW: Final = {"line": ("snapshot", "timestamp"), "targets": ("snapshot", "timestamp"), "snapshot": ("timestamp",)}
CLOCKS: Final = (T0 + 60, None, 0, T0 + 8 * DAY, T0 + 31 * DAY, T0 + 3 * YEAR, T0 - YEAR, T0 + 5000 * YEAR)
MAX_ACTS: Final = 12
"""Acts of one run: each publishes or delivers a handful of files."""


class Life:
    """A repository, all that it ever published, and what the fuzzer does to it."""

    def __init__(self, source: Input) -> None:
        self.source, self.repo = source, Repo()
        self.old: list[tuple[str, bytes]] = []
        self.repo.add_release("1.1.0", b"image", counter=3)
        self.publish()

    def publish(self, *roles: str, **made: bytes) -> None:
        self.repo.publish(*roles, **made)
        self.old += [(role, self.repo.files[role]) for role in ROLES]

    def act(self) -> None:
        acts: tuple[Callable[[], None], ...] = (
            *(self.renew, self.edit, self.rotate, self.release, self.knob, self.steal, self.spoil, self.replay),
        )
        self.source.pick(acts)()

    def renew(self) -> None:
        mask = self.source.byte() or 31
        self.publish(*(role for bit, role in enumerate(ROLES) if mask >> bit & 1))

    def edit(self) -> None:
        """Sign what the fuzzer made of a file, and list it honestly."""
        role = self.source.pick(ROLES)

        def edit(body: dict[str, Any]) -> None:
            for _ in range(1 + self.source.below(3)):
                altered(self.source, body, raw=False)

        self._issue(role, version=self.repo.versions[role] + 1, edit=edit)

    def steal(self) -> None:
        """Sign with other keys, at any version."""
        role = self.source.pick(ROLES)
        held = self.repo.keys[role]
        hands: tuple[list[SigningKey], ...] = (
            *(held[:1], [key("mallory")], [held[0], held[0].named("0" * 64)], held, []),
            [key("mallory").named(one.keyid) for one in held],
        )
        version = self.repo.versions[role]
        versions = (version + 1, version, version + 2, 1, MAX_VERSION, version - 1)
        self._issue(role, version=self.source.pick(versions), signers=self.source.pick(hands))

    def _issue(self, role: str, **over: Any) -> None:
        made: bytes = getattr(self.repo, role)(**over)
        try:
            made.decode()
            version_of(made)
        except (UnicodeDecodeError, ValueError, KeyError, TypeError, OverflowError):
            return  # nothing that a lister could name
        if self.source.below(4):
            self.publish(*BELOW.get(role, ()), **{role: made})
        else:
            self.repo.publish(role, **{role: made})

    def rotate(self) -> None:
        self.repo.rotate(*(role for role in ROLES if self.source.below(2)))
        self.old += [(role, self.repo.files[role]) for role in ROLES]

    def release(self) -> None:
        source = self.source
        version = f"{source.below(3)}.{source.below(3)}.{source.below(2)}"
        custom: dict[str, Any] = {}
        if source.below(2):
            custom[source.pick(("withdrawn", "downgrade_from", "set", "requires", "crit", "component", "v"))] = (
                source.pick((["1.0.0"], "s", {"app": "1.0.0"}, ["version"], "app", 2, [], {}))
            )
        hardware = source.pick((["nrf-a"], ["nrf-a", "nrf-b"], ["nrf-b"]))
        image = source.pick((b"image", b"another", b"third"))
        self.repo.add_release(version, image, hardware=hardware, counter=source.below(8), **custom)
        self.publish("line", "snapshot", "timestamp")

    def knob(self) -> None:
        source, repo = self.source, self.repo
        match source.below(6):
            case 0:
                times = (T0 + 7 * DAY, T0, T0 + 60, T0 + 61, T0 - YEAR, T0 + 100 * YEAR)
                repo.expires[source.pick(ROLES)] = source.pick(times)
            case 1:
                repo.issued = source.pick((T0, None, T0 + DAY, T0 - DAY, T0 + 50 * YEAR))
            case 2:
                repo.thresholds[source.pick(ROLES)] = 1 + source.below(4)
            case 3:
                repo.max_security_counter = source.below(8)
            case 4:
                repo.offline_grace, repo.max_offline_grace = source.below(8) * DAY, source.below(8) * DAY
            case _:
                repo.hardware = list(source.pick((["nrf-a"], ["nrf-b"], ["nrf-a", "nrf-b"])))
        self.publish(*(("targets", "line", "snapshot", "timestamp") if source.below(2) else ("timestamp",)))

    def spoil(self) -> None:
        """Change bytes of a file that is published."""
        name = self.source.pick(sorted(name for name in self.repo.tree if name.startswith("metadata/")))
        raw = bytearray(self.repo.tree[name])
        at = self.source.below(65_536) % len(raw)
        raw[at : at + self.source.below(3)] = self.source.chunk(self.source.below(6))
        self.repo.tree[name] = bytes(raw)

    def replay(self) -> None:
        """Let an old file stand in the place of the newest one of its role."""
        role, old = self.source.pick(self.old)
        name = {"line": self.repo.product}.get(role, role)
        place = f"{name}.json" if role == "timestamp" else f"{self.repo.versions[role]}.{name}.json"
        self.repo.tree[f"metadata/{place}"] = old


# --- the session ------------------------------------------------------------------------------------------------------


def fuzz_session(data: bytes) -> None:
    source = Input(data)
    life = Life(source)
    trust, witness = Trust(parse_root(life.repo.files["root"])), Witness("pump")
    for _ in range(MAX_ACTS):
        if not source:
            break
        match source.below(4):
            case 0 | 1:
                life.act()
            case 2:
                trust = update(life, trust, witness)
            case _:
                trust = after_reset(trust)
    update(life, trust, witness)


def update(life: Life, trust: Trust, witness: Witness) -> Trust:
    """One session with what the repository publishes now; return what is trusted afterwards."""
    source, clock = life.source, life.source.pick(CLOCKS)
    session = UpdateSession(trust, DEVICE, clock)
    for _ in range(MAX_ROOTS + 5):
        if (need := session.need) is None:
            break
        raw = life.repo.tree.get(f"metadata/{need.file_name}")
        if source.below(16) == 15:
            raw = source.pick(life.old)[1] if source.below(2) else source.chunk(200)
        before, step = session.trust, session.step
        try:
            if raw is not None:
                session.receive(raw)
            elif need.optional:
                session.absent()
            else:
                break
        except Refused:
            assert session.step is Step.FAILED
        if session.trust is not before:
            witness.accepted(need.role, before, session.trust)
        assert session.step is not Step.ROOT or step is Step.ROOT
    trust = session.trust
    if session.step is Step.READY:
        confirmed = {"app": RUNS} if source.below(2) else {}
        with suppress(Refused):
            chosen = session.select(confirmed, {"app": source.below(8)})
            found = current(trust, "pump", clock)
            witness.current(trust, found, clock)
            judge(trust, chosen, confirmed)
    else:
        with suppress(MisuseError):
            session.select({}, {})
            raise AssertionError("selected before the session was ready")
    return trust


def judge(trust: Trust, chosen: Selection, confirmed: Mapping[str, Installed]) -> None:
    """What was chosen is listed, for this device, not withdrawn, and no step back that nobody signed."""
    assert trust.line
    assert trust.targets
    entries = signed_of(trust.line.raw)["targets"]
    roles = signed_of(trust.targets.raw)["delegations"]["roles"]
    allowed = next(role for role in roles if role["name"] == "pump").get("x-hillhold", {})
    assert len(chosen.verdicts) <= len(entries)
    for release in chosen.plan:
        custom = entries[release.path]["custom"]["hillhold"]
        assert release.path.startswith("pump/")
        assert "nrf-a" in custom["hardware"]
        assert set(custom["hardware"]) <= set(allowed["hardware"])
        assert custom.get("component", "app") == "app"
        assert custom["security_counter"] <= allowed["max_security_counter"]
        assert "withdrawn" not in custom
        assert entries[release.path]["hashes"]["sha256"] == release.sha256.hex()
        if confirmed:
            assert custom["security_counter"] >= RUNS.security_counter
            assert release.version > RUNS.version or str(RUNS.version) in custom.get("downgrade_from", ())


def after_reset(trust: Trust) -> Trust:
    """What is trusted after it was stored and read again: the same."""
    state = DeviceState(DEVICE, trust, (RUNS, None))
    found = decode_record(encode_record(1, state))[1].trust
    assert replace(found, schemes=trust.schemes) == trust
    return found


# --- the client -------------------------------------------------------------------------------------------------------


def fuzz_client(data: bytes) -> None:
    source = Input(data)
    life = Life(source)
    trust, delegated = Trust(parse_root(life.repo.files["root"])), dict[str, Envelope[Targets]]()
    for _ in range(MAX_ACTS // 2):
        life.act()
        if source.below(2) or not source:
            trust, delegated = refresh(life, trust, delegated)
        if not source:
            break


def refresh(
    life: Life, trust: Trust, delegated: Mapping[str, Envelope[Targets]]
) -> tuple[Trust, dict[str, Envelope[Targets]]]:
    """One refresh and search; what is kept was signed by a quorum of the role, as whoever delegates to it says now."""
    asked = 0

    def fetch(role: str, version: int | None, limit: int) -> bytes | None:
        nonlocal asked
        asked += 1
        assert limit > 0
        return life.repo.tree.get(f"metadata/{role}.json" if version is None else f"metadata/{version}.{role}.json")

    def keep(role: str, raw: bytes) -> None:
        root = signed_of(client.trust.root.raw)
        if role in ("root", *TOP):
            signers(raw, root["roles"][role], root["keys"])
            return
        assert client.trust.targets
        above = [client.trust.targets.raw, *(held.raw for held in client.delegated.values())]
        assert any(delegates(lister, role, raw) for lister in above)

    client = Client(trust, delegated, life.source.pick([clock for clock in CLOCKS if clock]), fetch, keep)
    before = trust.root.signed.version
    with suppress(Refused):
        client.refresh()
        assert client.now >= trust.now(None) or client.trust.root is not trust.root
        path = life.source.pick((*life.repo.entries, "a", "pump/9.9.9/app.bin"))
        found = client.find(path)
        assert found is None or found.path == path
    assert client.trust.root.signed.version >= before
    assert asked <= MAX_ROOTS + 3 + MAX_DELEGATIONS
    return client.trust, dict(client.delegated)


def delegates(lister: bytes, role: str, raw: bytes) -> bool:
    below = signed_of(lister).get("delegations", {"roles": [], "keys": {}})
    entries = [entry for entry in below.get("roles", []) if entry["name"] == role]
    if succinct := below.get("succinct_roles"):
        entries.append(succinct)
    return any(len(valid(raw, entry, below["keys"])) >= entry["threshold"] for entry in entries)
