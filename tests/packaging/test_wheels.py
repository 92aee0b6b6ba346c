"""Each wheel, built here and installed alone: what it says of itself, and that it runs on exactly what it declares.

"Alone" is a fresh virtual environment that sees the wheel, the workspace members that it depends on, and links to the installed
distributions that its requirements name, recursively. Nothing else is there, so a forgotten dependency fails; nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MEMBERS = {"hillhold-verifier": "verifier", "hillhold-signer": "signer", "hillhold-bootsim": "bootloader-sim"}
SERVICE = "hillhold-signer[service]"
COMMANDS = {"hillhold-verifier": "hillhold-device", "hillhold-signer": "hillhold", "hillhold-bootsim": "hillhold-lab"}
BUILDING = 120
"""Seconds for building or installing a wheel."""
RUNNING = 60
"""Seconds for one command."""

CALL_DEVICE = """
import sys
from hillhold_verifier.cli import main
sys.exit(main(["status", "--port", "socket://127.0.0.1:9"]))
"""
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
names = [name for name in names if not name.startswith(tuple(sys.argv[2:]))]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
LIST_ALL = """
from importlib.metadata import distributions
print("\\n".join(sorted({item.metadata["Name"] for item in distributions()})))
"""


@dataclass(frozen=True)
class Wheel:
    """A built wheel."""

    path: Path
    names: frozenset[str]
    metadata: Message
    entry_points: str


def run(command: Iterable[object], home: Path, timeout: int) -> subprocess.CompletedProcess[str]:
    """Run without anything of this environment but the path, and without an index to download from."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=home,
        check=False,
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wheel]:
    out = tmp_path_factory.mktemp("wheels")
    found = {}
    for name, folder in MEMBERS.items():
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out / name, ROOT / folder]
        done = run(build, out, BUILDING)
        assert done.returncode == 0, done.stdout + done.stderr
        (path,) = (out / name).glob("*.whl")
        found[name] = read_wheel(path)
    return found


def read_wheel(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as file:
        names = frozenset(file.namelist())
        (info,) = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
        metadata = Parser().parsestr(file.read(f"{info}/METADATA").decode())
        return Wheel(path, names, metadata, file.read(f"{info}/entry_points.txt").decode())


def project(name: str) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / MEMBERS[name] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return found


def requirements(metadata: Message) -> list[Requirement]:
    return [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]


# --- what a wheel says of itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_metadata_say_what_the_project_file_says(wheels: dict[str, Wheel], name: str) -> None:
    stated, metadata = project(name), wheels[name].metadata
    assert metadata["Name"] == name
    assert metadata["Version"] == stated["version"] == project("hillhold-verifier")["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == stated["requires-python"] == ">=3.11"
    assert metadata["Summary"] == stated["description"]
    plain = [found for found in requirements(metadata) if "extra" not in str(found.marker or "")]
    dependencies = stated["dependencies"]
    assert isinstance(dependencies, list)
    assert {str(found) for found in plain} == {str(Requirement(line)) for line in dependencies}
    siblings = [found for found in plain if found.name in MEMBERS]
    assert all(str(found.specifier) == f"=={stated['version']}" for found in siblings)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wheel_holds_its_package_and_nothing_else(wheels: dict[str, Wheel], name: str) -> None:
    package, wheel = name.replace("-", "_"), wheels[name]
    tops = {item.split("/")[0] for item in wheel.names}
    assert tops == {package, f"{package}-{wheel.metadata['Version']}.dist-info"}
    assert f"{package}/py.typed" in wheel.names
    source = ROOT / MEMBERS[name] / "src" / package
    files = {path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"{package}/{path.relative_to(source).as_posix()}" for path in files} == {
        item for item in wheel.names if item.startswith(f"{package}/")
    }
    assert not [
        item for item in wheel.names if re.search(r"(^|/)(tests?|test_[^/]*|conftest\.py|__pycache__)(/|$)", item)
    ]
    assert f"{COMMANDS[name]} = {package}.cli:main" in wheel.entry_points


def test_the_verifier_needs_two_distributions(wheels: dict[str, Wheel]) -> None:
    found = requirements(wheels["hillhold-verifier"].metadata)
    assert {item.name for item in found if item.marker is None} == {"cryptography", "cbor2"}
    assert {(item.name, str(item.marker)) for item in found if item.marker} == {("pyserial", 'extra == "serial"')}


# --- a wheel alone ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alone:
    """An environment that holds one wheel and what it declares."""

    folder: Path
    expected: frozenset[str]
    extras: frozenset[str]

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([self.folder / "bin" / "python", "-I", "-c", code, *arguments], self.folder, RUNNING)

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([self.folder / "bin" / name, *arguments], self.folder, RUNNING)


def needed(
    wheel: Wheel, wheels: dict[str, Wheel], extras: Iterable[str]
) -> tuple[dict[str, Wheel], dict[str, Distribution]]:
    """The workspace members and the installed distributions that a wheel requires, recursively, with the extras asked for."""
    members: dict[str, Wheel] = {}
    others: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(requirement, extra) for extra in ("", *extras) for requirement in requirements(wheel.metadata)]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name in wheels:
            members[name] = wheels[name]
            below = requirements(wheels[name].metadata)
        else:
            others[name] = distribution(name)
            assert requirement.specifier.contains(others[name].version), (
                f"{requirement}: {others[name].version} is installed"
            )
            below = [Requirement(line) for line in others[name].requires or []]
        for wanted in {"", *requirement.extras} - {extra for found, extra in seen if found == name}:
            seen.add((name, wanted))
            queue += [(item, wanted) for item in below]
    return members, others


@pytest.fixture(scope="module", params=[*MEMBERS, SERVICE])
def alone(
    request: pytest.FixtureRequest, wheels: dict[str, Wheel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Alone]:
    asked = Requirement(request.param)
    name = asked.name
    folder = tmp_path_factory.mktemp(name)
    members, others = needed(wheels[name], wheels, asked.extras)
    assert run([sys.executable, "-m", "venv", "--without-pip", folder], folder, BUILDING).returncode == 0
    (site,) = (folder / "lib").glob("python3.*/site-packages")
    links = folder / "links"
    links.mkdir()
    for found in others.values():
        for top in {path.parts[0] for path in found.files or []} - {"..", "__pycache__"}:
            (links / top).symlink_to(Path(str(found.locate_file(top))))
    (site / "declared.pth").write_text(f"{links}\n")
    paths = [item.path for item in (wheels[name], *members.values())]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin" / "python",
        "install",
        "--quiet",
        "--no-deps",
        *paths,
    ]
    done = run(pip, folder, BUILDING)
    assert done.returncode == 0, done.stdout + done.stderr
    return name, Alone(folder, frozenset({name, *members, *others}), frozenset(asked.extras))


def test_alone_means_alone(alone: tuple[str, Alone]) -> None:
    name, environment = alone
    done = environment.python(LIST_ALL)
    assert {canonicalize_name(line) for line in done.stdout.split()} == environment.expected, done.stderr
    if name == "hillhold-verifier":
        assert {"hillhold-verifier", "cryptography", "cbor2"} <= environment.expected
        absent = ["hillhold_signer", "hillhold_bootsim", "tuf", "securesystemslib", "click", "serial", "pytest"]
        for module in absent:
            assert "ModuleNotFoundError" in environment.python(f"import {module}").stderr
    else:
        assert "ModuleNotFoundError" in environment.python("import pytest").stderr


def test_every_module_imports(alone: tuple[str, Alone]) -> None:
    name, environment = alone
    package = name.replace("-", "_")
    lacking = name == "hillhold-signer" and "service" not in environment.extras
    without = ["hillhold_signer.service."] if lacking else []
    done = environment.python(IMPORT_ALL, package, *without)
    assert done.returncode == 0, done.stderr
    source = ROOT / MEMBERS[name] / "src" / package
    left_out = {"migrations", *(["service"] if without else [])}  # the former alembic runs, and nobody imports
    modules = [path for path in source.rglob("*.py") if not left_out & set(path.relative_to(source).parts)]
    if without:
        modules.append(source / "service/__init__.py")
    assert int(done.stdout) == len(modules) - 1, "every module but the package itself"


def test_the_service_is_an_extra(alone: tuple[str, Alone]) -> None:
    name, environment = alone
    if name == "hillhold-signer":
        done = environment.python("import hillhold_signer.service.tables")
        assert ("ModuleNotFoundError" in done.stderr) == ("service" not in environment.extras), done.stderr


def test_the_command_runs(alone: tuple[str, Alone]) -> None:
    name, environment = alone
    done = environment.command(COMMANDS[name], "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert COMMANDS[name] in done.stdout


def test_the_lab_brings_its_boards(alone: tuple[str, Alone]) -> None:
    name, environment = alone
    if name == "hillhold-bootsim":
        shipped = {path.stem for path in (ROOT / "bootloader-sim/src/hillhold_bootsim/boards").glob("*.toml")}
        done = environment.command("hillhold-lab", "boards")
        assert {line.split()[0] for line in done.stdout.splitlines()} == shipped != set(), done.stderr


def test_the_lab_brings_its_clauses_and_makes_a_pdf_only_with_the_extra(alone: tuple[str, Alone]) -> None:
    name, environment = alone
    if name == "hillhold-bootsim":
        done = environment.python("from hillhold_bootsim.lab.clauses import rows; print(len(rows()))")
        assert int(done.stdout) > 100, done.stderr
        assert ("ModuleNotFoundError" in environment.python("import reportlab").stderr) == (
            "report" not in environment.extras
        )


def test_without_pyserial_the_command_says_what_to_install(alone: tuple[str, Alone]) -> None:
    """Only the verifier comes without; beside the others a port that nobody listens on is what is wrong."""
    name, environment = alone
    if name == "hillhold-signer":
        assert "ModuleNotFoundError" in environment.python("import serial").stderr
        return
    done = environment.python(CALL_DEVICE)
    assert done.returncode == 3
    assert ("hillhold-verifier[serial]" in done.stderr) == (name == "hillhold-verifier")
    assert "Traceback" not in done.stderr
