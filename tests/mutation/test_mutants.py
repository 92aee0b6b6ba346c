"""The faults that mutation testing puts in: what a check is made of is changed, words are not, and the rest stays as it is."""

from __future__ import annotations

import ast

from mutants import mutants

SOURCE = '''
LIMIT = 4
"""A limit."""

def check(a: int, b: int = 7, *, roles: dict[str, int]) -> bool:
    """Check."""
    if a < LIMIT and not b:
        raise ValueError(f"too small: {a}", "words")
    for role in (ROOT, TARGETS):
        use(roles[role], strict=True)
    return a >= b
'''


def test_each_part_of_a_check_is_changed() -> None:
    found = {mutant.name for mutant in mutants(ast.parse(SOURCE), "m")}
    assert found >= {
        "module: 4 -> 5",
        "check: a < LIMIT -> a <= LIMIT",
        "check: a < LIMIT -> a >= LIMIT",
        "check: a < LIMIT and (not b) -> a < LIMIT or not b",
        "check: a < LIMIT and (not b) -> not b",
        "check: a < LIMIT and (not b) -> True",
        "check: not b -> b",
        "check: raise ValueError(f'too small: {a}', 'words') -> pass",
        "check: (ROOT, TARGETS) -> ()",
        "check: ROOT -> TIMESTAMP",
        "check: TARGETS -> nothing",
        "check: use(roles[role], strict=True) -> pass",
        "check: strict=True -> nothing",
        "check: True -> False",
        "check: return a >= b -> return None",
        "check: return a >= b -> return not a >= b",
        "check: 7 -> 8",
    }


def test_words_and_annotations_stay() -> None:
    names = [mutant.name for mutant in mutants(ast.parse(SOURCE), "m")]
    assert not [name for name in names if "words' -> " in name or "A limit" in name or "int ->" in name]


def test_a_mutant_changes_one_thing_and_leaves_the_tree_alone() -> None:
    tree = ast.parse(SOURCE)
    before = ast.unparse(tree)
    made = [mutant.compile(tree, "m.py") for mutant in mutants(tree, "m")]
    assert compile(tree, "m.py", "exec") not in made
    assert ast.unparse(tree) == before


def test_names_tell_mutants_apart_and_do_not_depend_on_lines() -> None:
    names = [mutant.name for mutant in mutants(ast.parse(SOURCE + SOURCE.replace("check", "again")), "m")]
    assert len(set(names)) == len(names)
    assert names[:5] == [mutant.name for mutant in mutants(ast.parse("\n\n" + SOURCE), "m")][:5]


def test_what_runs_at_import_is_told_from_what_runs_in_a_function() -> None:
    inside = {mutant.name: mutant.inside for mutant in mutants(ast.parse(SOURCE), "m")}
    assert not inside["module: 4 -> 5"]
    assert not inside["check: 7 -> 8"]
    assert inside["check: not b -> b"]
