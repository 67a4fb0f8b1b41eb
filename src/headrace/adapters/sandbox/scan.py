"""Whether a Python program is one that Monty surely runs as CPython does.

Monty is a Python interpreter of its own, fast to start. It lacks parts of the language, and here and there its answer
differs. A program passes only if it is made of constructs, names and methods whose answers were compared one by one.
What Monty refuses is run again elsewhere; so a program that could catch such a refusal itself does not pass. Nor does
one that uses: sets (their order), regular expressions (matches of nothing, `$`), the second argument of `round`,
integers from text in other scripts.
"""

from __future__ import annotations

import ast
import warnings
from functools import lru_cache

LONGEST = 40_000  # characters; a longer program is not looked at


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STATEMENTS = (
    ast.Module,
    ast.FunctionDef,
    ast.arguments,
    ast.arg,
    ast.Return,
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.For,
    ast.While,
    ast.If,
    ast.Expr,
    ast.Pass,
    ast.Break,
    ast.Continue,
    ast.Import,
    ast.ImportFrom,
    ast.alias,
    ast.Raise,
)
_EXPRESSIONS = (
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.IfExp,
    ast.Dict,
    ast.List,
    ast.Tuple,
    ast.ListComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.comprehension,
    ast.Call,
    ast.keyword,
    ast.JoinedStr,
    ast.FormattedValue,
    ast.Constant,
    ast.Attribute,
    ast.Subscript,
    ast.Slice,
    ast.Starred,
    ast.Name,
    ast.Lambda,
    ast.expr_context,
    ast.boolop,
    ast.unaryop,
    ast.cmpop,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Pow,
)
_BUILTINS = _words(
    "len str float bool list dict tuple range enumerate zip map filter sorted reversed sum min max abs any all "
    "isinstance print True False None ValueError TypeError KeyError IndexError Exception RuntimeError int round"
)
_NOT_BUILTIN = _words(
    "set frozenset bytes bytearray memoryview id hash open eval exec compile getattr setattr delattr hasattr globals "
    "locals vars dir object super type input format iter next callable property classmethod staticmethod complex slice "
    "breakpoint help exit quit repr ascii bin hex oct ord chr divmod pow"
)
_MODULES = {
    "json": frozenset({"loads", "dumps"}),
    "math": frozenset({"floor", "ceil", "sqrt", "pi", "trunc", "gcd", "fabs", "inf"}),
    "typing": frozenset({"Any", "Dict", "List", "Optional", "Tuple", "Union"}),
}
_METHODS = _words(
    "append extend insert pop remove index count sort reverse copy clear keys values items get update setdefault "
    "split strip lstrip rstrip join replace startswith endswith lower upper find rfind splitlines "
    "capitalize partition zfill ljust rjust center"
)


@lru_cache(1024)
def fits(code: str) -> bool:
    """True if Monty surely runs the program right, or says that it cannot."""
    if len(code) > LONGEST:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape in a string: the author's own business
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):  # too deep, in several ways
        return False
    modules = {
        (alias.asname or alias.name): alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    return all(_known(node, modules) for node in ast.walk(tree))


def _known(node: ast.AST, modules: dict[str, str]) -> bool:
    match node:
        case ast.FunctionDef():
            return not node.decorator_list and not node.name.startswith("_") and node.name not in _BUILTINS
        case ast.Import():
            return all(alias.name in _MODULES for alias in node.names)
        case ast.ImportFrom():
            known = _MODULES.get(node.module or "", frozenset())
            return not node.level and all(alias.name in known for alias in node.names)
        case ast.Name():
            return not node.id.startswith("__") and node.id not in _NOT_BUILTIN
        case ast.Attribute():
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                return node.attr in _MODULES.get(modules[node.value.id], frozenset())
            return node.attr in _METHODS
        case ast.Constant():
            return isinstance(node.value, str | int | float | None)
        case ast.Call():
            # round(2.675, 2) is 2.68 there and 2.67 here; int(text) knows the digits of other scripts only here
            single = isinstance(node.func, ast.Name) and node.func.id == "round"
            return not single or (len(node.args) == 1 and not node.keywords)
        case ast.Dict():
            # True takes the place of 1 there, with its own name
            return all(not isinstance(key, ast.Constant) or isinstance(key.value, str) for key in node.keys)
        case _:
            return isinstance(node, _STATEMENTS + _EXPRESSIONS)
