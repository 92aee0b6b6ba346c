"""The repository itself: what lies at its top, what no file may name, what the lock pins, what links point at, how large code may grow.

Each rule is a function from text to findings, and each is first shown text that breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]

TOP = {
    *(".ci", ".editorconfig", ".github", ".gitignore", ".requirements.in", "LICENSE", "Makefile", "README.md"),
    *("bootloader-sim", "docs", "keys-example", "pyproject.toml", "requirements.lock", "signer", "tests", "verifier"),
}
"""All that lies at the top (DESIGN §1)."""

MAX_MODULE = 400
"""Lines of a module."""
MAX_TEST_MODULE = 500
"""Lines of a module of flat tests."""
MAX_FUNCTION = 70
"""Lines of a function, signature and docstring included."""

# In pieces, so that this file does not name them either. Where packages come from is for whoever installs them to say.
NAMED_NOWHERE = (
    *("pypi" + ".org", "python" + "hosted", "--index" + "-url", "--extra-index" + "-url", "--find" + "-links"),
    *("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", ":\\" + "Users"),
)

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|^\[[^\]\n]+\]:\s+(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)


def tracked() -> list[PurePosixPath]:
    """What git knows and has not deleted; a source archive without git is not the repository."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git work tree")
    return [PurePosixPath(name) for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: PurePosixPath) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


# --- the rules --------------------------------------------------------------------------------------------------------


def forbidden_names(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for name in NAMED_NOWHERE:
            if name in line:
                yield f"{number}: names {name}"


def lock_problems(text: str) -> Iterator[str]:
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        if not entry.strip() or entry.startswith("#"):
            continue
        requirement, *hashes = entry.split(" --hash=")
        if "://" in entry or " @ " in requirement:
            yield f"{requirement}: a URL"
        if not re.match(r"[a-z0-9][a-z0-9._-]*==[0-9a-z.!+]+( ;|$)", requirement.strip()):
            yield f"{requirement}: not one version of one package"
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", item.strip()) for item in hashes):
            yield f"{requirement}: no SHA-256, or something else"


def broken_links(path: PurePosixPath, text: str) -> Iterator[str]:
    prose = _CODE.sub("", _FENCE.sub("", text))
    for match in _LINK.finditer(prose):
        link = match[1] or match[2]
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / path.parent / name).resolve() if name else ROOT / path
        if not target.is_relative_to(ROOT.resolve()) or not target.exists():
            yield f"{link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{link}: no such heading"


def anchors(text: str) -> set[str]:
    """Names of headings as forges make them: lower case, punctuation gone, spaces to hyphens."""
    found = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def too_long(text: str, limit: int = MAX_MODULE) -> Iterator[str]:
    lines = len(text.splitlines())
    if lines > limit:
        yield f"1: {lines} lines, more than {limit}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield f"{node.lineno}: {node.name} has {length} lines, more than {MAX_FUNCTION}"


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_the_top_holds_what_the_design_names() -> None:
    assert {path.parts[0] for path in tracked()} == TOP


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [f"{path}:{what}" for path in tracked() for what in forbidden_names(text_of(path))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(("name", "hashes"), [("requirements.lock", 100), ("tests/fuzz/requirements-fuzz.txt", 2)])
def test_a_lock_pins_each_package_by_hash(name: str, hashes: int) -> None:
    lock = text_of(PurePosixPath(name))
    assert lock.count("--hash=") > hashes, "an empty lock has no problems"
    assert not list(lock_problems(lock))


def test_every_link_leads_somewhere() -> None:
    pages = [path for path in tracked() if path.suffix == ".md"]
    assert PurePosixPath("docs/THREAT-MODEL.md") in pages
    found = [f"{page}: {what}" for page in pages for what in broken_links(page, text_of(page))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.slow
def test_no_module_and_no_function_is_too_long() -> None:
    modules = [path for path in tracked() if path.suffix == ".py"]
    assert len(modules) > 30
    limits = {path: MAX_TEST_MODULE if path.parts[0] == "tests" else MAX_MODULE for path in modules}
    found = [f"{path}:{what}" for path in modules for what in too_long(text_of(path), limits[path])]
    assert not found, "\n" + "\n".join(found)


# --- each rule can fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED_NOWHERE)
def test_a_forbidden_name_is_found(name: str) -> None:
    assert list(forbidden_names(f"fine\nsee {name}x\n")) == [f"2: names {name}"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("a==1", "no SHA-256"),
        (f"a>=1 --hash=sha256:{'0' * 64}", "not one version"),
        (f"a==1 --hash=md5:{'0' * 32}", "no SHA-256"),
        (f"a @ https://example.org/a.whl --hash=sha256:{'0' * 64}", "a URL"),
        (f"--index https://example.org --hash=sha256:{'0' * 64}", "a URL"),
    ],
)
def test_a_loose_entry_of_the_lock_is_found(entry: str, problem: str) -> None:
    good = f"b==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'2' * 64}\n"
    assert not list(lock_problems(good))
    assert any(problem in what for what in lock_problems(good + entry))


@pytest.mark.parametrize(
    "link", ["[a](missing.md)", "[a](../../outside.md)", "[a]: missing.md", "![a](no.png)", "[a](THREAT-MODEL.md#no)"]
)
def test_a_broken_link_is_found(link: str) -> None:
    page = PurePosixPath("docs/page.md")
    good = "[a](THREAT-MODEL.md) [b](../LICENSE) [c](https://example.org/x) `[d](no)`\n```\n[e](no)\n```\n"
    assert not list(broken_links(page, good))
    assert len(list(broken_links(page, good + link))) == 1


def test_long_code_is_found() -> None:
    body = "    x = 1\n"
    assert not list(too_long("def f():\n" + body * (MAX_FUNCTION - 1)))
    assert list(too_long("class C:\n  async def f():\n" + body * MAX_FUNCTION)) == ["2: f has 71 lines, more than 70"]
    assert not list(too_long("x = 1\n" * MAX_MODULE))
    assert list(too_long("x = 1\n" * (MAX_MODULE + 1))) == ["1: 401 lines, more than 400"]
