"""Which delegated role a path belongs to, held to python-tuf's own answer."""

from __future__ import annotations

import time
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import DelegatedRole, SuccinctRoles

from hillhold_verifier.delegations import delegations_for, matches
from hillhold_verifier.roles import Delegation, Role, Succinct, Targets

ROLE = Role(("k",), 1)


def delegation(name: str, *paths: str, prefixes: tuple[str, ...] = (), terminating: bool = False) -> Delegation:
    return Delegation(name, ROLE, paths, prefixes, terminating, frozenset(), 0, 0)


def targets(*delegations: Delegation, succinct: Succinct | None = None) -> Targets:
    return Targets(1, 2, {}, {}, delegations, succinct, 0)


@given(st.text("ab*?/", max_size=8), st.text("ab/", max_size=8))
def test_patterns_match_as_python_tuf_has_it(pattern: str, path: str) -> None:
    theirs = DelegatedRole("r", ["k"], 1, False, paths=[pattern])
    assert matches(delegation("r", pattern), path) == theirs.is_delegated_path(path)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.tgz", "foo.tgz", True),
        ("*.tgz", "targets/foo.tgz", False),
        ("foo-version-?.tgz", "foo-version-a.tgz", True),
        ("foo-version-?.tgz", "foo-version-alpha.tgz", False),
        ("pump/*/*", "pump/1.0.0/app.bin", True),
        ("pump/*/*", "pump/app.bin", False),
        ("*", "", True),
        ("a.c", "abc", False),
        ("*ab", "b", False),
        ("a*ab", "aab", True),
        ("ab*cd*ef", "ab1cdcd2ef", True),
        ("b*b", "bab", True),
        ("*x", "a", False),
        ("ax", "a", False),
        ("a", "ax", False),
    ],
)
def test_examples_of_the_specification(pattern: str, path: str, expected: bool) -> None:
    """TUF 4.5, PATHPATTERN."""
    assert matches(delegation("r", pattern), path) is expected


def test_no_pattern_takes_long() -> None:
    """A backtracking matcher would take years for this one."""
    began = time.process_time()
    assert not matches(delegation("r", "*a" * 60 + "b"), "a" * 240)
    assert time.process_time() - began < 1


def test_prefixes_are_of_the_paths_hash() -> None:
    digest = sha256(b"pump/1.0.0/app.bin").hexdigest()
    assert matches(delegation("r", prefixes=(digest[:4],)), "pump/1.0.0/app.bin")
    assert not matches(delegation("r", prefixes=(digest[:4],)), "pump/1.0.1/app.bin")


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8"), max_size=20), st.integers(1, 32))
def test_bins_are_python_tufs(path: str, bits: int) -> None:
    theirs = SuccinctRoles(["k"], 1, bits, "bin").get_role_for_target(path)
    (found,) = delegations_for(targets(succinct=Succinct(ROLE, bits, "bin")), path)
    assert found.name == theirs


def test_order_is_kept_and_a_terminating_role_ends_it() -> None:
    all_three = [delegation("a", "x"), delegation("b", "*", terminating=True), delegation("c", "*")]
    assert [d.name for d in delegations_for(targets(*all_three), "x")] == ["a", "b"]
    assert [d.name for d in delegations_for(targets(*all_three[::-1]), "x")] == ["c", "b"]
    assert delegations_for(targets(delegation("a", "x")), "y") == []


def test_a_bin_is_a_terminating_role_that_allows_nothing_more() -> None:
    (found,) = delegations_for(targets(succinct=Succinct(ROLE, 8, "bin")), "pump/1.0.0/app.bin")
    digits = sha256(b"pump/1.0.0/app.bin").hexdigest()[:2]
    assert found == Delegation(f"bin-{digits}", ROLE, (), (), True, frozenset(), 0, 0)


def test_a_path_that_is_no_text_belongs_to_someone_all_the_same() -> None:
    """Metadata cannot name it; who asks for it gets an answer, not an accident."""
    assert matches(delegation("r", "*"), "\ud800")
    assert not matches(delegation("r", prefixes=("zz",)), "\ud800")
    (found,) = delegations_for(targets(succinct=Succinct(ROLE, 4, "bin")), "\ud800")
    assert found.name.startswith("bin-")
