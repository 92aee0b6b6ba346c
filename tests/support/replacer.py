"""Puts a mutant in the place of what was imported: for mutation testing."""

from __future__ import annotations

import ast
import functools
import gc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from mutants import Mutant

PACKAGE = Path(__file__).parents[2] / "verifier/src/hillhold_verifier"


def path_of(module: str) -> Path:
    """The file of a module."""
    return PACKAGE / f"{module.replace('.', '/')}.py"


def codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """A code object and all that are nested in it, each by qualified name and first line."""
    yield (code.co_qualname, code.co_firstlineno), code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes(const)


def caches() -> list[functools._lru_cache_wrapper[Any]]:
    """The verifier's functions that remember what they returned."""
    found = [item for item in gc.get_objects() if isinstance(item, functools._lru_cache_wrapper)]
    return [item for item in found if item.__wrapped__.__module__.startswith(PACKAGE.name)]


class Replacer:
    """Replaces the code of functions that were imported; knows them by their code."""

    def __init__(self) -> None:
        self._caches = caches()
        self._functions: dict[tuple[str, tuple[str, int]], list[FunctionType]] = defaultdict(list)
        for item in gc.get_objects():
            if isinstance(item, FunctionType) and item.__code__.co_filename.startswith(str(PACKAGE)):
                code = item.__code__
                self._functions[code.co_filename, (code.co_qualname, code.co_firstlineno)].append(item)

    def replace(self, mutant: Mutant, tree: ast.Module) -> bool:
        """Put the mutant in place; says whether any function became another."""
        name = str(path_of(mutant.module))
        changed = mutant.compile(tree, name)
        by_key: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
        for key, code in codes(changed):
            by_key[key].append(code)
        found: list[tuple[FunctionType, CodeType]] = []
        for key, options in by_key.items():
            functions = self._functions.get((name, key), [])
            known = [function.__code__ for function in functions]
            for function in functions:
                if function.__code__ not in options:
                    found += [(function, code) for code in options if code not in known][:1]
        if any(code.co_freevars != function.__code__.co_freevars for function, code in found):
            return False  # a closure without one of its variables
        for function, code in found:
            function.__code__ = code
        for cache in self._caches:  # what the unchanged code returned while tests were collected
            cache.cache_clear()
        return bool(found)
