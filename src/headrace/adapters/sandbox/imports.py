"""The imports of a Python program, from its source, so that missing packages are known without running it."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from functools import lru_cache

# Modules of the standard library that need the network. HTTP_MODULES can use a proxy.
HTTP_MODULES = frozenset({"http.client", "urllib.request", "xmlrpc.client"})
NETWORK_MODULES = HTTP_MODULES | frozenset(
    {
        "ftplib",
        "http.server",
        "imaplib",
        "nntplib",
        "poplib",
        "smtplib",
        "socket",
        "socketserver",
        "telnetlib",
        "xmlrpc.server",
    }
)
NETWORK_PACKAGES = frozenset({"aiohttp", "httpx", "requests", "urllib3"})
"""Popular packages for the network."""


@dataclass(frozen=True)
class Imports:
    """`modules`: all imported modules with their full names, also those in a `try`. `needed`: the top-level names of
    those that are required. Both in the order of the source."""

    modules: dict[str, None] = field(default_factory=dict[str, None])
    needed: dict[str, None] = field(default_factory=dict[str, None])


@lru_cache(1024)
def imports(code: str) -> Imports:
    """Empty if the source is not valid Python, which fails when it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as unknown escapes in strings
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return Imports()
    result = Imports()
    stack: list[tuple[ast.AST, bool]] = [(tree, True)]
    while stack:
        node, needed = stack.pop()
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
                tops = names
            case ast.ImportFrom(module=str(module), level=0):
                # `request` in `from urllib import request` is a module
                names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
                tops = [module]
            case ast.Try():
                rest = [*node.finalbody, *node.orelse]
                stack += [(child, False) for child in reversed([*node.body, *node.handlers])]
                stack += [(child, needed) for child in reversed(rest)]
                continue
            case _:
                stack += [(child, needed) for child in reversed(list(ast.iter_child_nodes(node)))]
                continue
        result.modules.update(dict.fromkeys(names))
        if needed:
            result.needed.update((name.partition(".")[0], None) for name in tops)
    return result
