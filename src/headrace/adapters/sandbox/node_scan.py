"""Features of Node.js in a JavaScript program, by its source; they may never be reached."""

from __future__ import annotations

import re
from functools import lru_cache

from headrace.adapters.sandbox.quickjs import GLOBALS, LOCALE_CASES, LOCALE_METHODS

# Tokens of a program: comments, strings, regular expressions where no value precedes, and others.
_TOKEN = re.compile(
    r"""
    (?P<comment> //[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<text>    "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<regex>   (?<=[=(,;:!&|?{}\[\n+\-*%~^<>])[ \t]{0,20}/(?![/*])
                 (?:\\.|\[(?:\\.|[^\]\\\n]){0,200}\]|[^/\\\n\[]){1,400}/[a-z]* )
  | (?P<quote>   ` )
  | (?P<open>    \{ )
  | (?P<close>   \} )
    """,
    re.VERBOSE | re.DOTALL,
)
_TEMPLATE = re.compile(r"(?:\\.|[^`\\$]|\$(?!\{))*(?P<end>`|\$\{)?", re.DOTALL)
_NAME = re.compile(r"(?P<dot>(?<!\.)\.\s*|\?\.\s*)?(?P<name>\b[A-Za-z_][\w$]*)(?P<colon>\s*:(?!:))?")
_DECLARED = re.compile(r"\b(?:const|let|var|function\s*\*?|class)\s+(?P<name>[\w$]+)")
_GIVEN = re.compile(r"\s*\(\s*[^)\s]")
_NETWORK_MODULES = "http https http2 net tls dgram dns"
_REQUIRED = re.compile(rf"\b(?:require|import)\s*\(\s*['\"](?:node:)?(?P<name>{'|'.join(_NETWORK_MODULES.split())})\b")


@lru_cache(1024)
def node_features(code: str) -> tuple[str, ...]:
    """The names in the order of the source; those of methods begin with a dot."""
    bare = _without_text(code)
    declared = {match["name"] for match in _DECLARED.finditer(bare)}
    names: dict[str, None] = {}
    for match in _NAME.finditer(bare):
        name = match["name"]
        if match["dot"]:
            if name in LOCALE_METHODS or (name in LOCALE_CASES and _GIVEN.match(bare, match.end())):
                names[f".{name}"] = None
        elif name in GLOBALS and name not in declared and not match["colon"]:
            names[name] = None
    return tuple(names)


@lru_cache(1024)
def network_features(code: str) -> tuple[str, ...]:
    """The features for the network: `fetch`, and required modules."""
    names = dict.fromkeys(name for name in node_features(code) if name == "fetch")
    names |= {f"require('{match['name']}')": None for match in _REQUIRED.finditer(code)}
    return tuple(names)


def _without_text(code: str) -> str:
    """The program without comments, strings and regular expressions, but with the `${...}` of templates."""
    pieces: list[str] = []
    depths: list[int] = []  # open braces of each enclosing template
    at = 0
    while match := _TOKEN.search(code, at):
        pieces.append(code[at : match.start()])
        at = match.end()
        match match.lastgroup:
            case "quote":
                at = _past_template(code, at, depths)
            case "open":
                pieces.append("{")
                if depths:
                    depths[-1] += 1
            case "close" if depths and not depths[-1]:
                pieces.append(" ")
                depths.pop()
                at = _past_template(code, at, depths)
            case "close":
                pieces.append("}")
                if depths:
                    depths[-1] -= 1
            case "text":
                pieces.append("''")
            case _:
                pieces.append(" ")
    return "".join([*pieces, code[at:]])


def _past_template(code: str, at: int, depths: list[int]) -> int:
    """The position after the template's end, or after its next `${`, which adds a depth."""
    match = _TEMPLATE.match(code, at)
    if match is None:
        return len(code)
    if match["end"] == "${":
        depths.append(0)
    return match.end()
