"""Mutants of a module: its source with one small mistake in it.

Left alone is what no test of behaviour can see: docstrings, annotations, imports, decorators, the text of errors,
the limits of what is cut for a message, whether `zip` is strict, and shortcuts past work that comes to nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Defaults = Mapping[str, frozenset[str]]
"""Parameters with a default, by the name of a function or class."""

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_FUNCTIONS = {"maximum": "minimum", "minimum": "maximum", "ceil": "floor", "floor": "ceil", "any": "all", "all": "any"}
_SHORTCUTS = {"any", "all"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One mistake in one module."""

    module: str
    """Path from the root."""
    line: int
    statement: tuple[int, int]
    """First and last line of the smallest statement around it."""
    function: str | None
    """Qualified name of the outermost function whose body holds it, None where none does."""
    before: str
    after: str
    source: str
    """Of the whole module with the mistake in it."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {_short(self.before)}  ->  {_short(self.after)}"

    @property
    def mutated_line(self) -> str:
        """The line with the mistake in it."""
        return self.source.splitlines()[self.line - 1].strip()


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 90 else f"{one[:87]}..."


def defaults(sources: Iterable[str]) -> Defaults:
    """Parameters and fields with a default of all functions and classes in some sources."""
    defaulted_names: dict[str, set[str]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                named = [*node.args.posonlyargs, *node.args.args][-len(node.args.defaults) :]
                names = {each.arg for each in named} if node.args.defaults else set()
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                names |= {each.arg for each, value in pairs if value is not None}
                defaulted_names.setdefault(node.name, set()).update(names)
            elif isinstance(node, ast.ClassDef):
                fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and each.value is not None]
                names = {each.target.id for each in fields if isinstance(each.target, ast.Name)}
                defaulted_names.setdefault(node.name, set()).update(names)
    return {name: frozenset(names) for name, names in defaulted_names.items()}


def mutants(module: str, source: str, known: Defaults) -> list[Mutant]:
    """Every mutant of a module, in the order of its source; those that are no Python or change nothing left out.

    Parameters
    ----------
    module
        Path from the root.
    source
        Its text.
    known
        What has a default, for keyword arguments that may be dropped.
    """
    tree, text = ast.parse(source), source.encode()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    by_source: dict[str, Mutant] = {}
    for place in _places(tree, _Place(tree)):
        for node, after in _mistakes(place, known):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            before = text[begin:end].decode()
            changed = (text[:begin] + f"({after})".encode() + text[end:]).decode()
            if ast.dump(ast.parse(after, mode="eval").body) == ast.dump(node):
                continue
            mutant = Mutant(module, node.lineno, place.statement, place.function, before, after, changed)
            by_source.setdefault(changed, mutant)
    return sorted(by_source.values(), key=lambda each: each.line)


def replaced(module: str, source: str, before: str, after: str) -> Mutant:
    """The mutant that writes one thing for another.

    Raises
    ------
    ValueError
        Unless it stands there exactly once.
    """
    if source.count(before) != 1:
        raise ValueError(
            f"{module}: {before!r} stands there {source.count(before)} times; write what stands there once"
        )
    line, tree = source[: source.index(before)].count("\n") + 1, ast.parse(source)
    for place in _places(tree, _Place(tree)):
        if place.statement[0] <= line <= place.statement[1] and place.function is not None:
            return Mutant(module, line, place.statement, place.function, before, after, source.replace(before, after))
    raise ValueError(f"{module}:{line}: no function holds {before!r}")


@dataclass(frozen=True)
class _Place:
    """An expression or statement, and what is around it."""

    node: ast.AST
    function: str | None = None
    returns: str = ""
    """What the innermost function says it returns."""
    scope: str = ""
    """Qualified name of the class or function around it."""
    statement: tuple[int, int] = (0, 0)
    is_shortcut: bool = False
    """Whether it stands in the condition of a shortcut past work that comes to nothing."""

    def at(self, node: ast.AST, **changes: object) -> _Place:
        """The same for a node inside."""
        return _Place(**{**vars(self), "node": node, **changes})


def _places(node: ast.AST, around: _Place) -> Iterator[_Place]:
    """Every node that may be mutated, the outer before the inner."""
    for name, child in _children(node):
        if _is_left_alone(node, name, child):
            continue
        place = around.at(child)
        if isinstance(child, ast.stmt):
            place = place.at(child, statement=(child.lineno, child.end_lineno or child.lineno))
        if isinstance(child, ast.If | ast.While | ast.For | ast.With | ast.Match):
            place = place.at(child, statement=(child.lineno, child.lineno))
        if isinstance(node, ast.If) and name == "test":
            last = child.end_lineno or child.lineno  # type: ignore[attr-defined]
            place = place.at(child, statement=(node.lineno, last), is_shortcut=_is_shortcut(node))
        if isinstance(child, ast.ClassDef):
            place = place.at(child, scope=f"{around.scope}{child.name}.")
        if isinstance(child, _Function):
            yield from _inside(child, place)
            continue
        yield place
        yield from _places(child, place)


def _inside(function: _Function, place: _Place) -> Iterator[_Place]:
    """What a function has: defaults outside of it, and its body."""
    yield from (
        each
        for default in [*function.args.defaults, *filter(None, function.args.kw_defaults)]
        for each in [place.at(default), *_places(default, place)]
    )
    own = place.at(
        function,
        function=place.function or f"{place.scope}{function.name}",
        returns=ast.unparse(function.returns) if function.returns else "",
    )
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    yield from _places(ast.Module(body, []), own)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield name, child


def _is_left_alone(node: ast.AST, name: str, child: ast.AST) -> bool:
    """Whether no test of behaviour can see what stands there."""
    if isinstance(child, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Slice | ast.Pass):
        return True
    if name in ("annotation", "returns", "decorator_list", "bases", "pattern", "args") and (
        not isinstance(node, ast.Call)
    ):
        return True
    if isinstance(child, ast.keyword) and child.arg == "strict":
        return True
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True
    if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "get_args"):
        return True
    if isinstance(child, ast.Assign | ast.AnnAssign):
        target = child.targets[0] if isinstance(child, ast.Assign) else child.target
        return ast.unparse(target) == "__all__" or "Literal[" in ast.unparse(child)
    return False


def _is_shortcut(node: ast.If) -> bool:
    """Whether an `if` only passes by work that comes to nothing, as ``if not np.any(...): return []`` does."""
    calls = [_called(each) for each in ast.walk(node.test) if isinstance(each, ast.Call)]
    return bool(_SHORTCUTS & set(calls))


def _called(call: ast.Call) -> str:
    """Name of what is called, without its module or object."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _mistakes(place: _Place, known: Defaults) -> Iterator[tuple[ast.expr, str]]:
    """Expressions at a place, and what mistakes write there."""
    node = place.node
    if isinstance(node, ast.BinOp):
        yield from ((node, text) for text in _arithmetic(node))
    elif isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield from ((node, text) for text in _logic(node, place))
    elif isinstance(node, ast.Constant):
        yield from ((node, text) for text in _constants(node, place))
    elif isinstance(node, ast.Call):
        yield from ((node, text) for text in _calls(node, place, known))
    elif isinstance(node, ast.IfExp | ast.If | ast.While):
        yield node.test, _denied(node.test)
    elif isinstance(node, ast.comprehension):
        yield from ((test, _denied(test)) for test in node.ifs)
    elif isinstance(node, ast.Return) and node.value is not None:
        nothing = "0.0" if place.returns in ("Num", "float") else "[]" if place.returns.startswith("list[") else ""
        if nothing and ast.unparse(node.value) != nothing:
            yield node.value, nothing


def _logic(node: ast.Compare | ast.BoolOp | ast.UnaryOp, place: _Place) -> Iterator[str]:
    """The border of a comparison moved, `and` for `or`, and what was denied or negated as it is."""
    if isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
    elif isinstance(node, ast.UnaryOp):
        yield ast.unparse(node.operand)
    elif len(node.ops) == 1 and not (place.is_shortcut and isinstance(node.ops[0], ast.Gt | ast.GtE)):
        yield ast.unparse(ast.Compare(node.left, [_COMPARISONS[type(node.ops[0])]()], node.comparators))


def _denied(condition: ast.expr) -> str:
    return ast.unparse(ast.UnaryOp(ast.Not(), condition))


def _arithmetic(node: ast.BinOp) -> Iterator[str]:
    """Another operator, and a sum without one of its terms."""
    if type(node.op) in _OPERATORS:
        yield ast.unparse(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))
    if isinstance(node.op, ast.Add | ast.Sub):
        yield ast.unparse(node.left)
    if isinstance(node.op, ast.Add):
        yield ast.unparse(node.right)


def _constants(node: ast.Constant, place: _Place) -> Iterator[str]:
    """Other numbers: 0 for 1 and 1 for 0, half of 2, twice as much, and the other truth."""
    value = node.value
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int | float) and value in (0, 1):
        if not (place.is_shortcut and value == 1):
            yield repr(type(value)(1 - value))
        if value:
            yield repr(2 * value)
    elif isinstance(value, int | float):
        yield repr(2 * value)
        if value == 2:
            yield repr(type(value)(1))


def _calls(node: ast.Call, place: _Place, known: Defaults) -> Iterator[str]:
    """The opposite function, swapped alternatives, and calls without a keyword that has a default."""
    name = _called(node)
    if name in _FUNCTIONS and not (place.is_shortcut and name in _SHORTCUTS) and isinstance(node.func, ast.Attribute):
        function = ast.Attribute(node.func.value, _FUNCTIONS[name], ast.Load())
        yield ast.unparse(ast.Call(function, node.args, node.keywords))
    if name == "where" and len(node.args) == 3:
        condition, first, second = node.args
        yield ast.unparse(ast.Call(node.func, [condition, second, first], node.keywords))
    for keyword in node.keywords:
        if keyword.arg in known.get(name, frozenset()):
            others = [each for each in node.keywords if each is not keyword]
            yield ast.unparse(ast.Call(node.func, node.args, others))
