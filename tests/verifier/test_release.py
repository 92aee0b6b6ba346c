"""What `custom.hillhold` of a target may say, and how versions are ordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import Object
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.release import (
    MAX_COUNTER,
    NOTHING,
    UNDERSTOOD,
    Patch,
    Release,
    Version,
    parse_target,
    patch_path,
    split_path,
)
from hillhold_verifier.roles import TargetFile

RELEASE: Object = {
    "v": 1,
    "hardware": ["nrf-a"],
    "version": "1.2.3",
    "security_counter": 4,
    "format": "mcuboot",
    "kind": "security",
}
PATH = "pump/1.2.3/app.bin"
BASE = bytes(range(32))
PATCH: Object = {"v": 1, "algorithm": "hhp2", "base": BASE.hex(), "base_length": 7, "makes": PATH}


def parse(custom: object, path: str = PATH) -> Release | Patch | None:
    return parse_target(TargetFile(path, 100, {"sha256": b"\1" * 32}, custom))


def release(**changes: object) -> Release:
    found = parse({name: value for name, value in (RELEASE | changes).items() if value is not None})
    assert isinstance(found, Release)
    return found


def test_a_release_says_what_was_put_in() -> None:
    one = release()
    assert (one.path, one.length, one.sha256, one.product) == (PATH, 100, b"\1" * 32, "pump")
    assert (one.hardware, one.component, one.version) == (frozenset({"nrf-a"}), "app", Version(1, 2, 3))
    assert (one.security_counter, one.format, one.kind) == (4, "mcuboot", "security")
    assert (one.crit, one.withdrawn, one.downgrade_from, one.requires) == (frozenset(), None, frozenset(), {})
    two = release(
        component="modem", crit=["x"], withdrawn="hot", downgrade_from=["1.2.4", "2.0.0+1"], requires={"app": "1.0.0"}
    )
    assert (two.component, two.crit, two.withdrawn or "") == ("modem", frozenset({"x"}), "hot")
    assert two.downgrade_from == {Version(1, 2, 4), Version(2, 0, 0, 1)}
    assert two.requires == {"app": Version(1, 0, 0)}


def test_a_patch_says_what_was_put_in() -> None:
    path = patch_path(PATH, BASE)
    assert path == f"{PATH}.0001020304050607.patch"
    assert parse(PATCH, path) == Patch(path, 100, b"\1" * 32, "hhp2", BASE, 7, PATH)


def test_a_target_without_custom_is_not_ours() -> None:
    assert parse(None) is None


def test_fields_that_are_not_known_are_ignored() -> None:
    assert release(sbom={"sha256": "0"}, notes="x", cohort=5) == release()


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in RELEASE),
        *({"v": v} for v in (0, 2, "1", True, -1)),
        *(
            {"hardware": value}
            for value in ("nrf-a", [], [1], ["b", "a"], ["a", "a"], ["x" * 257], [str(n).zfill(3) for n in range(257)])
        ),
        *({"version": value} for value in (1, "1.2.4", "1.2.3+0", "v1.2.3", "1.2.3-rc1")),
        *({"security_counter": value} for value in (-1, MAX_COUNTER + 1, "4", True)),
        *({"format": value} for value in ("elf", "RAW", 1)),
        *({"kind": value} for value in ("bugfix", "")),
        *({"crit": value} for value in ("x", ["b", "a"], [1])),
        *({"withdrawn": value} for value in (True, 1, "x" * 1025)),
        *({"downgrade_from": value} for value in ("1.2.4", ["1.2.5", "1.2.4"], ["1.2"], [1])),
        *(
            {"requires": value}
            for value in (["app"], {"app": 1}, {"app": "1.0"}, {str(n): "1.0.0" for n in range(257)})
        ),
        {"component": 5},
    ],
    ids=str,
)
def test_a_release_of_another_form(changes: Object) -> None:
    release()
    with pytest.raises(MetadataError):
        release(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware": [str(n).zfill(3) for n in range(256)]},
        {"hardware": ["x" * 256]},
        {"security_counter": 2**32 - 1},
        {"security_counter": 0},
        {"withdrawn": "x" * 1024},
        {"withdrawn": ""},
        {"requires": {str(n): "1.0.0" for n in range(256)}},
        {"component": "x" * 256, "set": "y" * 256},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_release_at_its_limits(changes: Object) -> None:
    found = release(**changes)
    wanted = {name: frozenset(value) if name == "hardware" else value for name, value in changes.items()}
    wanted.update({name: {n: Version(1, 0, 0) for n in value} for name, value in changes.items() if name == "requires"})
    assert {name: getattr(found, name) for name in changes} == wanted


def test_a_patch_at_its_limits() -> None:
    found = parse(PATCH | {"algorithm": "x" * 32, "base_length": 1}, patch_path(PATH, BASE))
    assert isinstance(found, Patch)
    assert (found.algorithm, found.base_length) == ("x" * 32, 1)


def test_a_patch_from_nothing_says_so_twice() -> None:
    nothing = {"base": NOTHING.hex(), "base_length": 0}
    found = parse(PATCH | nothing, patch_path(PATH, NOTHING))
    assert isinstance(found, Patch)
    assert found.fits(None)
    assert found.fits((b"\1" * 32, 7))
    for change in ({"base_length": 7, "base": NOTHING.hex()}, {"base_length": 0}):
        with pytest.raises(MetadataError, match="base_length: expected 0 for no bytes, and for nothing else"):
            parse(PATCH | change, patch_path(PATH, bytes.fromhex(str({**PATCH, **change}["base"]))))


@pytest.mark.parametrize(
    "name",
    [
        *("hardware", "component", "version", "security_counter", "format"),
        *("withdrawn", "downgrade_from", "requires", "set"),
    ],
)
def test_a_restriction_that_devices_obey_is_understood_where_it_is_critical(name: str) -> None:
    assert release(crit=[name]).crit <= UNDERSTOOD


@pytest.mark.parametrize("name", ["slot", "load_address", "encryption", "image_hash", "cohort", "kind", "v", ""])
def test_a_restriction_that_devices_do_not_obey_is_not_understood(name: str) -> None:
    assert release(crit=[name]).crit - UNDERSTOOD == {name}


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in PATCH if name != "makes"),
        *({"base": value} for value in ("", BASE.hex().upper(), BASE.hex()[:-1], BASE.hex() + "0", 5)),
        {"base": "f" * 64},
        *({"base_length": value} for value in (-1, "7", True)),
        *({"makes": value} for value in (5, "", "pump/1.2.3/other.bin")),
        {"algorithm": 5},
        {"algorithm": "x" * 33},
        {"v": 2},
    ],
    ids=str,
)
def test_a_patch_of_another_form(changes: Object) -> None:
    with pytest.raises(MetadataError):
        parse({name: value for name, value in (PATCH | changes).items() if value is not None}, patch_path(PATH, BASE))


@pytest.mark.parametrize("custom", [5, "x", [], True, {}, {"v": 1}, {"makes": "x"}])
def test_custom_of_another_shape(custom: object) -> None:
    with pytest.raises(MetadataError):
        parse(custom)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "pump",
        "pump/1.2.3",
        "pump/1.2.3/",
        "/1.2.3/app.bin",
        "pump//app.bin",
        "pump/1.2.3/sub/app.bin",
        "../1.2.3/app.bin",
        "pump/../app.bin",
        "pump/1.2.3/..",
        "pump/1.2.3/.app",
        "Pump/1.2.3/app.bin",
        "pump/1.2.3/app bin",
        "pump/1.2.3/app.bin\n",
        "pump\\1.2.3\\app.bin",
        "pump/1.2.3/äpp.bin",
        "pump/1.2.3/app%2fbin",
    ],
)
def test_paths_have_one_form(path: str) -> None:
    assert split_path(PATH) == ("pump", "1.2.3", "app.bin")
    with pytest.raises(MetadataError):
        split_path(path)
    with pytest.raises(MetadataError):
        parse(RELEASE, path)


def test_the_path_and_the_fields_agree() -> None:
    with pytest.raises(MetadataError, match="as in the path"):
        parse(RELEASE, "pump/1.2.4/app.bin")


versions = st.builds(
    Version, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)
)


@given(versions)
def test_versions_read_back(version: Version) -> None:
    assert Version.parse(str(version)) == version


def test_the_highest_version() -> None:
    assert Version.parse("255.255.65535+4294967295") == Version(255, 255, 65535, 2**32 - 1)


@given(versions, versions)
def test_versions_are_ordered_by_all_four_numbers(a: Version, b: Version) -> None:
    numbers = [(v.major, v.minor, v.patch, v.build) for v in (a, b)]
    assert (a < b) == (numbers[0] < numbers[1])
    assert (a == b) == (str(a) == str(b))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.02.3",
        "1.2.03",
        "1.2.3+01",
        "1.2.3+0",
        "1.2.3+",
        "1.2.3-1",
        "v1.2.3",
        " 1.2.3",
        "1.2.3\n",
        "-1.2.3",
        "256.0.0",
        "0.256.0",
        "0.0.65536",
        "0.0.0+4294967296",
        "1.2.3+" + "9" * 200,
        "1.2.3+" + "9" * 10_000,
        "１.2.3",
        "1.2.3+a",
        "+1.2.3",
        "1_0.2.3",
    ],
)
def test_versions_have_one_form(text: str) -> None:
    with pytest.raises(MetadataError):
        Version.parse(text)
