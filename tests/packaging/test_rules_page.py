"""docs/RULES.md names code and tests: each of them exists, and each rule has both."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/RULES.md").read_text(encoding="utf-8")
PACKAGES: Final = {"": "hillhold_verifier", "bootsim:": "hillhold_bootsim"}

_NAME = re.compile(r"`([^`]+)`")
_CODE = re.compile(r"(bootsim:|)([a-z_.]+)\.([A-Za-z_]+(?:\.[a-z_]+)?)")


def rows(page: str) -> Iterator[tuple[str, str, str, str]]:
    """The cells of each rule."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "rule":
            rule, code, tests, attacks = cells
            yield rule, code, tests, attacks


def unknown_code(cell: str) -> list[str]:
    """Names of code in a cell that are none."""
    return [name for name in _NAME.findall(cell) if not _is_code(name)]


def _is_code(name: str) -> bool:
    if (match := _CODE.fullmatch(name)) is None:
        return False
    prefix, path, rest = match.groups()
    # "context.Context.status": what begins with a capital is a class, and no module.
    *modules, last = path.split(".")
    found: object = importlib.import_module(".".join([PACKAGES[prefix], *modules, last]))
    for part in rest.split("."):
        found = getattr(found, part, None)
    return found is not None


def unknown_tests(cell: str) -> list[str]:
    """Names in a cell that are neither a file of tests nor a test in the file named before."""
    there: set[str] = set()
    unknown = []
    for name in _NAME.findall(cell):
        if "/" in name:
            path = ROOT / "tests" / f"{name}.py"
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
            there = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
            if not there:
                unknown.append(name)
        elif name not in there:
            unknown.append(name)
    return unknown


@pytest.mark.slow
def test_what_the_page_names_exists_and_each_rule_has_code_tests_and_attacks() -> None:
    found = list(rows(PAGE))
    assert len(found) > 40
    for rule, code, tests, attacks in found:
        assert unknown_code(code) == [], rule
        assert unknown_tests(tests) + unknown_tests(attacks) == [], rule
        for cell in (code, tests, attacks):
            assert _NAME.search(cell), f"{rule}: an empty cell"


@pytest.mark.parametrize("name", ["trust.nothing", "context.Context.nothing", "verify", "trust"])
def test_a_name_that_is_no_code_is_found(name: str) -> None:
    assert unknown_code(f"`trust.verify` `{name}`") == [name]


def test_a_name_that_is_no_test_is_found() -> None:
    cell = "`packaging/test_rules_page` `test_a_name_that_is_no_test_is_found` `test_nothing` `packaging/test_none` `test_x`"
    assert unknown_tests(cell) == ["test_nothing", "packaging/test_none", "test_x"]
