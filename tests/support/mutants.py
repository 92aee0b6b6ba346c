"""Small faults for mutation testing: each mutant is a module's syntax tree with one thing changed.

What is changed is what a check is made of: comparisons, conditions, constants, names of roles, statements, arguments, returned values,
members of tables, loops, handlers. Words of messages, docstrings and annotations are left alone.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Final

ROLES: Final = ("ROOT", "TIMESTAMP", "SNAPSHOT", "TARGETS", "LINE")
"""Names of constants that stand for one another: a file verified for another role's keys is a hole."""
_COMPARE: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_BINARY: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_CALLS: Final = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "startswith": "endswith",
    "endswith": "startswith",
}
_NARROWING: Final = {"min", "max", "abs", "set", "frozenset", "tuple", "list", "sorted"}
_SKIPPED: Final = {"annotation", "returns", "decorator_list", "type_comment", "bases", "ctx", "ops", "op"}


@dataclass(frozen=True)
class Mutant:
    """One change. `name` stays the same while the code around it changes; `lines` are those whose tests can tell."""

    module: str
    name: str
    lines: range
    inside: bool
    """Within a function's body: replaceable without importing the module again."""
    holder: ast.AST
    field: str
    index: int | None
    new: ast.AST | None

    def compile(self, tree: ast.Module, filename: str) -> CodeType:
        """Return the code of the module with this change; the tree is as before afterwards."""
        old = getattr(self.holder, self.field)
        if self.index is None:
            setattr(self.holder, self.field, self.new)
        else:
            new = [] if self.new is None else [self.new]
            setattr(self.holder, self.field, [*old[: self.index], *new, *old[self.index + 1 :]])
        try:
            code: CodeType = compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)
            return code
        finally:
            setattr(self.holder, self.field, old)


@dataclass(frozen=True)
class _Place:
    """Where a node stands."""

    scope: str = ""
    inside: bool = False
    words: bool = False
    lines: range = range(0)


def mutants(tree: ast.Module, module: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of its text."""
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for holder, field, index, node, place in _nodes(tree, _Place()):
        for new in _replacements(node, field, place):
            if new is None and index is None:
                continue
            before, after = _text(node), "nothing" if new is None else _text(new)
            name = f"{place.scope or 'module'}: {before} -> {after}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            if new is not None:
                ast.copy_location(new, node)
            found.append(Mutant(module, name, place.lines, place.inside, holder, field, index, new))
    return found


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:160]


_Found = tuple[ast.AST, str, int | None, ast.AST, _Place]


def _nodes(holder: ast.AST, place: _Place) -> Iterator[_Found]:
    for field, value in ast.iter_fields(holder):
        if field in _SKIPPED:
            continue
        items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, node in items:
            if not isinstance(node, ast.AST) or _is_docstring(holder, field, node):
                continue
            if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
                continue
            here = _place(holder, field, node, place)
            yield holder, field, index, node, here
            yield from _nodes(node, here)


def _place(holder: ast.AST, field: str, node: ast.AST, place: _Place) -> _Place:
    scope, inside, words, lines = place.scope, place.inside, place.words, place.lines
    if isinstance(holder, ast.FunctionDef | ast.ClassDef | ast.Lambda):
        name = getattr(holder, "name", "lambda")
        scope = f"{scope}.{name}" if scope else name
        inside = inside or (isinstance(holder, ast.FunctionDef | ast.Lambda) and field == "body")
    if isinstance(node, ast.stmt):
        last = node.end_lineno or node.lineno
        body = getattr(node, "body", None) or getattr(node, "cases", None)
        if body:
            first = body[0].lineno if isinstance(body[0], ast.stmt) else body[0].pattern.lineno
            last = max(node.lineno, first - 1)
        lines = range(node.lineno, last + 1)
        words = isinstance(node, ast.Raise)
    return _Place(scope, inside, words, lines)


def _is_docstring(holder: ast.AST, field: str, node: ast.AST) -> bool:
    """A string that stands alone is a docstring, of a name too."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _replacements(node: ast.AST, field: str, place: _Place) -> Iterator[ast.AST | None]:
    """What a node becomes, one at a time; None: it goes."""
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.expr):
        if not (place.words and isinstance(node, ast.Constant | ast.Call)):
            yield from _expressions(node)
        if field in ("test", "ifs") and not isinstance(node, ast.Constant | ast.Compare):
            yield from (ast.Constant(True), ast.Constant(False))
        elif field == "elts" and not isinstance(node, ast.Starred):
            yield None
        elif field == "iter":
            yield ast.Tuple([], ast.Load())
        elif field == "guard":
            yield ast.Constant(True)
    elif isinstance(node, ast.keyword) and node.arg is not None and not place.words:
        yield None
    elif isinstance(node, ast.ExceptHandler):
        yield ast.ExceptHandler(node.type, node.name, [ast.Raise()])
    elif isinstance(node, ast.MatchOr):
        for at in range(len(node.patterns)):
            rest = [*node.patterns[:at], *node.patterns[at + 1 :]]
            yield rest[0] if len(rest) == 1 else ast.MatchOr(rest)


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.Return(value=ast.Constant()) | ast.Return(value=None):
            yield ast.Pass()
        case ast.Return(value=value):
            yield ast.Return(ast.Constant(None))
            if isinstance(value, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield ast.Return(ast.UnaryOp(ast.Not(), value))
        case ast.Expr() | ast.Raise() | ast.Assign() | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
            yield ast.Pass()
        case ast.With(body=body):
            yield ast.If(ast.Constant(True), body, [])


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=value):
            yield from map(ast.Constant, _values(value))
        case ast.Name(id=name, ctx=ast.Load()) if name in ROLES:
            yield from (ast.Name(other, ast.Load()) for other in ROLES[:4] if other != name)
        case ast.Compare(left=left, ops=ops, comparators=right):
            for at, op in enumerate(ops):
                for other in _COMPARE[type(op)]:
                    yield ast.Compare(left, [*ops[:at], other(), *ops[at + 1 :]], right)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for at in range(len(values)):
                rest = [*values[:at], *values[at + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in _BINARY:
                yield ast.BinOp(left, _BINARY[type(op)](), right)
            yield from (left, right)
        case ast.Call(func=function, args=args, keywords=keywords):
            yield from _calls(function, args, keywords)
        case ast.Slice(lower=lower, upper=upper, step=None):
            yield from [ast.Slice(None, upper)] if lower else []
            yield from [ast.Slice(lower, None)] if upper else []


def _values(value: object) -> list[bool | int | str | bytes]:
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1]
        case str():
            return [f"x{value}"]
        case bytes():
            return [b"x" + value]
    return []


def _calls(function: ast.expr, args: list[ast.expr], keywords: list[ast.keyword]) -> Iterator[ast.AST]:
    name = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    if name in _CALLS:
        other = _CALLS[name]
        renamed = (
            ast.Name(other, ast.Load())
            if isinstance(function, ast.Name)
            else ast.Attribute(function.value, other, ast.Load())  # type: ignore[attr-defined]
        )
        yield ast.Call(renamed, args, keywords)
    # The call is left out, and what it was given goes on: a step that cleans, bounds or narrows does not happen.
    if args and isinstance(function, ast.Name) and (name in _NARROWING or name.startswith("_")):
        yield args[0]
    if len(args) > 1 and name[:1].islower():  # an optional argument: a limit, a default, the name of a role
        yield ast.Call(function, args[:-1], keywords)
