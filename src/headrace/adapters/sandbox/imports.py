"""What a Python program imports, read from its text: what lacks before it can run is known without running it."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from functools import lru_cache

# Modules of the standard library that do nothing without a network. Those in HTTP reach it through a proxy.
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
"""The most frequent packages of other people's that are for the network."""


@dataclass(frozen=True)
class Imports:
    """`modules`: every module that is imported, with its dots, also where that is tried only. `needed`: the first part
    of those that the program cannot do without. Both in the order of the text."""

    modules: dict[str, None] = field(default_factory=dict[str, None])
    needed: dict[str, None] = field(default_factory=dict[str, None])


@lru_cache(1024)
def imports(code: str) -> Imports:
    """Nothing where the text is not Python: running it says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape in a string: the author's own business
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
                # `from urllib import request` is a module, too
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
