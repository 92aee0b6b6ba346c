"""Who may import what, and who may touch the outside world: the rules of DESIGN §1, held by reading every module's syntax tree.

The rules are the tables below. `findings` applies all of them to one package and names file and line. A last group of tests feeds tiny
bad modules through the same function, so that each rule is known to be able to fail.
"""

from __future__ import annotations

import ast
import builtins
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SOURCES = {
    "hillhold_verifier": ROOT / "verifier/src/hillhold_verifier",
    "hillhold_signer": ROOT / "signer/src/hillhold_signer",
    "hillhold_bootsim": ROOT / "bootloader-sim/src/hillhold_bootsim",
}
MAX_PUBLIC_NAMES = 20

CLI = "*/cli/*"
"""The command packages: the only modules that talk to people. A pattern's `*` also stands for slashes."""

SERVICE = "hillhold_signer/service/*"
"""The signing service: what it needs beside the rest is an extra, which only it may import."""

LAB = (
    "hillhold_bootsim/cli/*",
    "hillhold_bootsim/maker.py",
    "hillhold_bootsim/demo.py",
    "hillhold_bootsim/powercut/making.py",
    "hillhold_bootsim/lab/*",
)
"""The modules of hillhold_bootsim that may import the signer, since they forge and publish.

All others are simulated hardware (flash, counter, bootloader, board, UART …): they import the verifier and each other, and nothing that
signs. A new module is hardware unless it is named here.
"""


@dataclass(frozen=True)
class Imports:
    """What a package may import besides the standard library and itself.

    Attributes:
        anywhere: top-level modules that every module of the package may import.
        only_in: further ones, each with the modules that may.
        in_functions: further ones that may be imported only within a function, since they are optional at run time.
    """

    anywhere: frozenset[str]
    only_in: dict[str, tuple[str, ...]] = field(default_factory=dict)
    in_functions: dict[str, tuple[str, ...]] = field(default_factory=dict)


IMPORTS = {
    "hillhold_verifier": Imports(
        frozenset({"cryptography", "cbor2"}),
        in_functions={"serial": ("hillhold_verifier/link.py", "hillhold_verifier/ports.py")},
    ),
    "hillhold_signer": Imports(
        frozenset({"hillhold_verifier", "cryptography", "tuf", "securesystemslib", "bsdiff4", "numpy", "intelhex"}),
        only_in={
            "click": (CLI,),
            "yaml": ("hillhold_signer/westbuild.py",),
            "httpx": (SERVICE, "hillhold_signer/serviceclient.py", "hillhold_signer/remote_client.py"),
            **dict.fromkeys(
                (
                    *("fastapi", "starlette", "pydantic", "anyio", "uvicorn", "sqlalchemy", "alembic", "psycopg"),
                    *("obstore", "jinja2", "prometheus_client", "jwt", "structlog"),
                ),
                (SERVICE,),
            ),
        },
        in_functions={"pkcs11": ("hillhold_signer/hsm.py",)},
    ),
    "hillhold_bootsim": Imports(
        frozenset({"hillhold_verifier", "hillhold_signer", "cryptography", "cbor2", "intelhex"}),
        only_in={"click": (CLI,), **dict.fromkeys(("tuf", "securesystemslib"), LAB)},
        in_functions={
            "distributed": ("hillhold_bootsim/powercut/pools.py",),
            "reportlab": ("hillhold_bootsim/lab/report/pdf.py",),
        },
    ),
}

MODULES = {
    "pyserial": "serial",
    "pyjwt": "jwt",
    "pyyaml": "yaml",
    "securesystemslib[crypto]": "cryptography",
    "securesystemslib[hsm]": "pkcs11",
}
"""Modules of requirements that are not called like them."""


@dataclass(frozen=True)
class Ambient:
    """Names that reach around the arguments, and the modules that may use them. A name stands for all below it, too."""

    what: str
    names: frozenset[str]
    allowed: tuple[str, ...]


AMBIENT = (
    Ambient(
        "clock",
        frozenset(
            {
                *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
                *("time.perf_counter_ns", "time.gmtime", "time.localtime", "time.strftime"),
                *(
                    "datetime.datetime.now",
                    "datetime.datetime.utcnow",
                    "datetime.datetime.today",
                    "datetime.date.today",
                ),
            }
        ),
        (
            *(CLI, "hillhold_signer/service/service.py", "hillhold_signer/serviceclient.py"),
            *("hillhold_verifier/link.py", "hillhold_verifier/sources_http.py", "hillhold_bootsim/station.py"),
        ),
    ),
    Ambient(
        "randomness",
        frozenset({"random", "secrets", "os.urandom", "os.getrandom", "uuid.uuid1", "uuid.uuid4"}),
        (
            *(CLI, "hillhold_signer/service/service.py", "hillhold_bootsim/uart.py"),
            # Seeded: the same in every run.
            *(
                "hillhold_bootsim/linefaults.py",
                "hillhold_bootsim/powercut/runner.py",
                "hillhold_bootsim/powercut/scenario.py",
            ),
        ),
    ),
    Ambient(
        "printing",
        frozenset({"print", "input", "sys.stdout", "sys.stderr", "sys.stdin", "getpass"}),
        (CLI, "hillhold_signer/service/serve.py"),
    ),
    # The package root names its own modules, and imports each when it is first asked for.
    Ambient(
        "import by name",
        frozenset({"importlib.import_module", "__import__", "runpy"}),
        ("hillhold_verifier/__init__.py",),
    ),
)


# --- the checker ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One imported module, as an absolute dotted name, and the name that it gets here."""

    module: str
    alias: str
    meaning: str
    line: int
    in_function: bool


def findings(package: str, folder: Path) -> list[str]:
    """Return every breach of the rules in one package, as `file:line: what`."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        name = f"{package}/{path.relative_to(folder).as_posix()}"
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        imports = list(_imports(tree, name))
        problems = [*_check_imports(package, name, imports), *_check_names(name, tree, imports)]
        if name == f"{package}/__init__.py":
            problems += _check_all(tree)
        found += [f"{path}:{line}: {what}" for line, what in sorted(set(problems))]
    return found


def _imports(tree: ast.Module, name: str) -> Iterator[Import]:
    nested = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    here = name.split("/")[:-1]
    for node in ast.walk(tree):
        inside = id(node) in nested
        if isinstance(node, ast.Import):
            for item in node.names:
                first = item.name.partition(".")[0]
                alias, meaning = (item.asname, item.name) if item.asname else (first, first)
                yield Import(item.name, alias, meaning, node.lineno, inside)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for item in node.names:
                full = f"{module}.{item.name}"
                yield Import(full, item.asname or item.name, full, node.lineno, inside)


def _check_imports(package: str, name: str, imports: list[Import]) -> Iterator[tuple[int, str]]:
    rule = IMPORTS[package]
    for item in imports:
        top = item.module.partition(".")[0]
        if item.alias == "*":
            yield item.line, f"imports * from {item.module.removesuffix('.*')}"
        if package == "hillhold_bootsim" and not _is(name, LAB):
            # The last part may be a module, or a name within the one before.
            parts = item.module.split(".")
            paths = ["/".join(parts[:end]) + ending for end in (2, 3) for ending in (".py", "/__init__.py")]
            if top == "hillhold_signer" or any(_is(path, LAB) for path in paths):
                yield item.line, f"simulated hardware imports {item.module}"
        if f"{item.module}.".startswith("hillhold_signer.service.") and not _is(name, (SERVICE,)):
            if not (_is(name, (CLI,)) and item.in_function):
                yield item.line, f"imports {item.module}, which need not be installed"
            continue
        if top == package or top in sys.stdlib_module_names or top in rule.anywhere:
            continue
        if top in rule.in_functions and _is(name, rule.in_functions[top]):
            if not item.in_function:
                yield item.line, f"imports {top} outside a function"
        elif not _is(name, rule.only_in.get(top, ())):
            yield item.line, f"imports {top}"


def _check_names(name: str, tree: ast.Module, imports: list[Import]) -> Iterator[tuple[int, str]]:
    meanings = {item.alias: item.meaning for item in imports}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (dotted := _dotted(node, meanings)):
            for rule in AMBIENT:
                if dotted in rule.names and not _is(name, rule.allowed):
                    yield node.lineno, f"{rule.what}: {dotted}"
    for item in imports:
        for rule in AMBIENT:
            # `from random import choice` never names `random` again.
            parents = {item.module.rsplit(".", depth)[0] for depth in range(item.module.count(".") + 1)}
            if parents & rule.names and not _is(name, rule.allowed):
                yield item.line, f"{rule.what}: {item.module}"


def _check_all(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if not isinstance(value, ast.List | ast.Tuple):
                yield node.lineno, "__all__ is not a literal list"
            elif len(value.elts) > MAX_PUBLIC_NAMES:
                yield node.lineno, f"__all__ has {len(value.elts)} names, more than {MAX_PUBLIC_NAMES}"


def _dotted(node: ast.expr, meanings: dict[str, str]) -> str | None:
    """What a name or attribute stands for, through the module's imports: `dt.now` is `datetime.datetime.now`."""
    if isinstance(node, ast.Name):
        return meanings.get(node.id) or (node.id if hasattr(builtins, node.id) else None)
    if isinstance(node, ast.Attribute) and (value := _dotted(node.value, meanings)):
        return f"{value}.{node.attr}"
    return None


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


# --- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("package", SOURCES)
def test_every_module_keeps_the_rules(package: str) -> None:
    assert list(SOURCES[package].rglob("*.py")), f"no modules in {SOURCES[package]}"
    found = findings(package, SOURCES[package])
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("package", SOURCES)
def test_what_a_package_may_import_is_what_it_declares(package: str) -> None:
    """Directly, or through a workspace member that it depends on; another package's dependency may go away any day."""
    rule = IMPORTS[package]
    declared = _declared(package)
    allowed = {*rule.anywhere, *rule.only_in, *rule.in_functions}
    assert allowed <= declared, f"not declared in pyproject.toml: {sorted(allowed - declared)}"


def _declared(package: str) -> set[str]:
    project = tomllib.loads((SOURCES[package].parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project.get("optional-dependencies", {}).values() for line in extra),
    ]
    found = set()
    for line in lines:
        requirement = Requirement(line)
        module = MODULES.get(requirement.name, requirement.name.replace("-", "_"))
        found |= {module, *(MODULES.get(f"{requirement.name}[{extra}]", "") for extra in requirement.extras)} - {""}
        if module in SOURCES:
            found |= _declared(module)
    return found


def test_every_module_that_a_rule_names_exists() -> None:
    """Else a rule guards nothing, or an allowance waits for whoever takes the name."""
    named = {
        *(pattern for rule in AMBIENT for pattern in rule.allowed),
        *(p for rule in IMPORTS.values() for patterns in rule.in_functions.values() for p in patterns),
    } - {CLI}
    modules = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in SOURCES.items()
        for path in folder.rglob("*.py")
    }
    assert named <= modules, f"no such modules: {sorted(named - modules)}"


# --- each rule can fail -----------------------------------------------------------------------------------------------

V, S, B = SOURCES
BAD = [
    (V, "trust.py", "import tuf", "imports tuf"),
    (V, "trust.py", "from tuf.api import metadata", "imports tuf"),
    (V, "cli/main.py", "import click", "imports click"),
    (V, "trust.py", "from hillhold_signer.keys import load", "imports hillhold_signer"),
    (V, "trust.py", "def f():\n    import hillhold_bootsim", "imports hillhold_bootsim"),
    (V, "trust.py", "def f():\n    import serial", "imports serial"),
    (V, "link.py", "import serial", "imports serial outside a function"),
    (V, "trust.py", "from .metadata import *", "imports * from hillhold_verifier.metadata"),
    (S, "state.py", "import hillhold_bootsim.flash", "imports hillhold_bootsim"),
    (S, "state.py", "import click", "imports click"),
    (S, "state.py", "import requests", "imports requests"),
    (S, "state.py", "import fastapi", "imports fastapi"),
    (S, "state.py", "import hillhold_signer.service.tables", "imports hillhold_signer.service.tables, which"),
    (S, "state.py", "def f():\n    from hillhold_signer import service", "imports hillhold_signer.service, which"),
    (S, "cli/serving.py", "from hillhold_signer.service import app", "imports hillhold_signer.service.app, which"),
    (B, "flash.py", "import hillhold_signer", "simulated hardware imports hillhold_signer"),
    (B, "board.py", "from . import cli", "simulated hardware imports hillhold_bootsim.cli"),
    (B, "board.py", "from . import demo", "simulated hardware imports hillhold_bootsim.demo"),
    (B, "board.py", "from .demo import run", "simulated hardware imports hillhold_bootsim.demo.run"),
    (B, "board.py", "from .cli.main import run", "simulated hardware imports hillhold_bootsim.cli.main.run"),
    (B, "board.py", "import click", "imports click"),
    (B, "board.py", "import tuf", "imports tuf"),
    (V, "trust.py", "import time\nx = time.time()", "clock: time.time"),
    (V, "trust.py", "from time import monotonic as m\ndef f(clock=m): pass", "clock: time.monotonic"),
    (V, "trust.py", "from datetime import datetime as dt\ndt.now()", "clock: datetime.datetime.now"),
    (V, "trust.py", "import datetime\ndatetime.datetime.now()", "clock: datetime.datetime.now"),
    (S, "state.py", "import random", "randomness: random"),
    (S, "state.py", "from random import choice", "randomness: random.choice"),
    (S, "state.py", "import os as system\nsystem.urandom(8)", "randomness: os.urandom"),
    (S, "state.py", "from secrets import token_bytes", "randomness: secrets.token_bytes"),
    (S, "state.py", "print(1)", "printing: print"),
    (B, "flash.py", "import sys\nsys.stdout.write('x')", "printing: sys.stdout"),
    (B, "demo.py", "import importlib\nimportlib.import_module('x')", "import by name: importlib.import_module"),
    (V, "__init__.py", f"__all__ = {[f'n{i}' for i in range(21)]}", "__all__ has 21 names"),
    (V, "__init__.py", "__all__ = sorted(dir())", "__all__ is not a literal list"),
]


@pytest.mark.parametrize(("package", "file", "source", "finding"), BAD)
def test_a_module_that_breaks_a_rule_is_found(
    tmp_path: Path, package: str, file: str, source: str, finding: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text('"""Bad."""\n' + source)
    found = findings(package, tmp_path)
    lines = range(2, 3 + source.count("\n"))
    assert any(text.startswith(f"{path}:{line}: {finding}") for text in found for line in lines), found


GOOD = [
    (V, "link.py", "from time import monotonic\ndef f(clock=monotonic):\n    import serial"),
    (V, "metadata.py", "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)"),
    (S, "cli/main.py", "import time\nimport click\nprint(time.time())"),
    (S, "keys.py", "import tuf.api.metadata\nfrom hillhold_verifier import mcuboot\nfrom . import errors"),
    (S, "cli/serving.py", "def f():\n    from hillhold_signer.service import app"),
    (S, "service/app.py", "import fastapi\nfrom hillhold_signer.service import tables"),
    (B, "demo.py", "import hillhold_signer\nfrom .flash import Flash"),
    (B, "board.py", "from .flash import Flash\nfrom hillhold_verifier.agent import Agent"),
    (B, "flash.py", "import hashlib as random\ndef f(secrets):\n    return random, secrets"),
    (V, "__init__.py", f"__all__ = {[f'n{i}' for i in range(20)]}"),
]


@pytest.mark.parametrize(("package", "file", "source"), GOOD)
def test_a_module_that_keeps_the_rules_is_not(tmp_path: Path, package: str, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert findings(package, tmp_path) == []
