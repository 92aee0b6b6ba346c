"""What ships for whoever runs the service: the unit of systemd, and the file of a container. Neither is started here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from hillhold_signer import service
from hillhold_signer.cli import main

SHIPPED = Path(service.__path__[0]) / "shipped"
UNIT = (SHIPPED / "hillhold.service").read_text()
CONTAINER = (SHIPPED / "Containerfile").read_text()


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container's file, comments and continued lines resolved."""
    lines = [line for line in CONTAINER.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def parsed(words: list[str]) -> dict[str, object]:
    """The options of a command line of ours; raises where it is none."""
    name, *rest = words
    command = main.commands[name]
    with click.Context(command) as context:
        command.parse_args(context, rest)
        return context.params


# --- systemd --------------------------------------------------------------------------------------------------------------------------


def test_the_units_command_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = settings()["ExecStart"]
    program, *words = shlex.split(line)
    assert program.endswith("/hillhold")
    assert words[1] == "/var/lib/hillhold"
    assert parsed([words[0], str(tmp_path), *words[2:]])["listen"] == "127.0.0.1:8480"


def test_the_unit_lets_it_write_its_folder_and_nothing_else() -> None:
    found = settings()
    for name, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "StateDirectory": "hillhold",
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "LimitCORE": "0",
    }.items():
        assert found[name] == [value], name
    assert "ReadWritePaths" not in found
    assert not re.search(
        r"(?i)password=|secret=|token=", "\n".join(line for line in UNIT.splitlines() if line[:1] != "#")
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    unit: Path = tmp_path / "hillhold.service"
    unit.write_text(UNIT.replace("/usr/local/bin/hillhold ", "/bin/true "))  # it looks whether the program is there
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    asked = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


# --- a container ----------------------------------------------------------------------------------------------------------------------


def test_the_container_runs_as_nobody_in_particular_and_has_no_secret() -> None:
    found = instructions()
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    final = found[last:]
    names = [name for name, _ in final]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(final)["USER"] == "10480:10480"
    assert all(name != "COPY" or value.startswith("--from=build") for name, value in final), "no file of the builder's"
    assert "ADD" not in {name for name, _ in found}
    assert "ARG" not in {name for name, _ in found}
    assert "HEALTHCHECK" in names
    assert not re.search(
        r"(?i)password|secret|token", " ".join(value for name, value in found if name in ("ENV", "RUN", "CMD"))
    )
    known = {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert {name for name, _ in found} <= known | {"ENTRYPOINT", "CMD"}


def test_what_a_container_installs_is_pinned_by_hash() -> None:
    (build,) = (value for name, value in instructions() if name == "RUN" and "pip" in value)
    fetch, venv, install = (part.strip() for part in build.split("&&"))
    assert "--require-hashes" in fetch
    assert "venv" in venv
    assert install.startswith("PIP_NO_INDEX=1 ")
    assert "pip" not in venv


def test_a_containers_command_is_one(tmp_path: Path) -> None:
    found = dict(instructions())
    words = [*json.loads(found["ENTRYPOINT"])[1:], *json.loads(found["CMD"])]
    options = parsed([words[0], str(tmp_path), *words[2:]])
    assert (options["listen"], options["plain_http"]) == ("0.0.0.0:8480", True)
    assert found["VOLUME"] == found["WORKDIR"] == words[1]
    probe = json.loads(found["HEALTHCHECK"].partition(" CMD ")[2])
    compile(probe[2], "HEALTHCHECK", "exec")
    assert found["EXPOSE"] in probe[2]
