"""Generated programs, as code nodes have them: small ones, over the values that workflows carry.

`program(seed)` is the same for the same seed, whatever Python runs it. Its `main` returns a list of what its statements
came to; what raises is caught there and stands in the list as the error's name and text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

_KINDS = ("int", "float", "str", "list", "dict", "set", "bool", "iterator", "none", "tuple", "date")


class Writer:
    """Writes one program."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._names: dict[str, list[str]] = {kind: [] for kind in _KINDS}
        self._lines: list[str] = []
        self._count = 0

    def program(self) -> str:
        for _ in range(self._chance.randint(4, 12)):
            self._statement()
        body = "".join(f"    {line}\n" for line in self._lines)
        return f"{HEAD}\ndef program(out):\n{body}    return out\n"

    # --------------------------------------------------------------------------------------------------- statements

    def _statement(self) -> None:
        match self._chance.randint(0, 11):
            case 0 | 1 | 2 | 3:
                self._assign(self._pick(_KINDS))
            case 4 | 5 | 6 | 7:
                self._note(self._any(3))
            case 8:
                self._loop()
            case 9:
                self._change()
            case 10:
                self._function()
            case _:
                self._branch()

    def _assign(self, kind: str) -> None:
        name = self._new()
        expression = self._of(kind, 3)
        self._lines += [
            "try:",
            f"    {name} = {expression}",
            "except Exception as e:",
            "    note(out, e)",
            f"    {name} = {DEFAULTS[kind]}",
        ]
        self._names[kind].append(name)

    def _note(self, expression: str) -> None:
        self._lines += ["try:", f"    note(out, {expression})", "except Exception as e:", "    note(out, e)"]

    def _loop(self) -> None:
        item, total = self._new(), self._new()
        source = self._pick(
            (self._of("iterator", 2), self._of("list", 2), self._of("dict", 2), f"range({self._small()})")
        )
        step = self._pick((
            f"{total}.append({item})", f"{total}.extend([{item}, {item}])", f"{total} += [str({item})]",
            f"{total}.insert(0, {item})", f"if {item}: {total}.append(repr({item}))",
            f"if len({total}) > 3: break\n            else: {total}.append({item})",
        ))  # fmt: skip
        self._lines += [
            f"{total} = []",
            "try:",
            f"    for {item} in take({source}):",
            f"        {step}",
            "    else:",
            f"        {total}.append('end')",
            "except Exception as e:",
            "    note(out, e)",
            f"note(out, {total})",
        ]
        self._names["list"].append(total)

    def _change(self) -> None:
        kind = self._pick(("list", "dict", "set"))
        if not self._names[kind]:
            self._assign(kind)
        name = self._pick(self._names[kind])
        value, key = self._any(1), self._key()
        changes = {
            "list": (
                f"{name}.append({value})", f"{name}[{self._index()}] = {value}", f"{name}.sort(key=repr)",
                f"{name}.reverse()", f"{name}[{self._index()}:{self._index()}] = [{value}]",
                f"del {name}[{self._index()}]", f"note(out, {name}.pop())", f"{name}.remove({value})", f"{name} += ({value},)",
            ),
            "dict": (
                f"{name}[{key}] = {value}", f"{name}.update({{{key}: {value}}})", f"{name}.setdefault({key}, {value})",
                f"note(out, {name}.pop({key}))", f"del {name}[{key}]", f"{name} |= {{{key}: {value}}}",
                f"note(out, {name}.popitem())",
            ),
            "set": (f"{name}.add({key})", f"{name}.discard({key})", f"{name} |= {{{key}}}", f"{name}.remove({key})"),
        }[kind]  # fmt: skip
        self._lines += [
            "try:",
            f"    {self._pick(changes)}",
            "except Exception as e:",
            "    note(out, e)",
            f"note(out, {name})",
        ]

    def _function(self) -> None:
        name = self._new("f")
        kind = self._pick(_KINDS)
        body = self._pick(
            (f"return {self._any(2)}", f"yield {self._any(2)}; yield {self._any(1)}", f"return (a, b, {self._any(1)})")
        )
        first, second = self._any(1), self._of(kind, 1)
        call = self._pick(
            (
                f"{name}({first}, {second})",
                f"{name}({first})",
                f"{name}(b={second}, a={first})",
                f"{name}(*[{first}, {second}])",
            )
        )
        self._lines += [f"def {name}(a, b={self._of(kind, 0)}):", f"    {body}"]
        self._note(f"take({call}) if hasattr({call}, '__next__') else {call}")

    def _branch(self) -> None:
        name = self._new()
        self._lines += [
            "try:",
            f"    if {self._any(2)}:",
            f"        {name} = {self._any(1)}",
            "    else:",
            f"        {name} = {self._any(1)}",
            "except Exception as e:",
            f"    {name} = str(e)",
            f"note(out, {name})",
        ]
        if self._chance.random() < 0.3:
            what = self._any(1)
            self._lines += [
                f"match {name}:",
                "    case {'a': x}: note(out, ['mapping', x])",
                "    case [x, *rest]: note(out, ['sequence', x, rest])",
                "    case int() | float(): note(out, 'number')",
                "    case str(): note(out, 'text')",
                f"    case _: note(out, {what!r})",
            ]

    # -------------------------------------------------------------------------------------------------- expressions

    def _any(self, depth: int) -> str:
        return self._of(self._pick(_KINDS), depth)

    def _of(self, kind: str, depth: int) -> str:
        if self._names[kind] and self._chance.random() < 0.4:
            return self._pick(self._names[kind])
        if depth <= 0:
            return self._literal(kind)
        makers: dict[str, Callable[[int], str]] = {
            "int": self._int, "float": self._float, "str": self._str, "list": self._list, "dict": self._dict,
            "set": self._set, "bool": self._bool, "iterator": self._iterator, "tuple": self._tuple, "date": self._date,
            "none": lambda depth: self._literal("none"),
        }  # fmt: skip
        return makers[kind](depth - 1)

    def _literal(self, kind: str) -> str:
        match kind:
            case "int":
                return self._pick(
                    ("0", "1", "-1", "2", "7", "10", "-13", "255", "1000000", str(2**53), str(2**63), "-" + str(2**70))
                )
            case "float":
                return self._pick(
                    (
                        "0.0",
                        "-0.0",
                        "0.5",
                        "2.675",
                        "-1.25",
                        "1e15",
                        "123456789012345.6",
                        "562949953421312.0",
                        "1e16",
                        "1e22",
                        "1e-5",
                        "0.1",
                        "float('nan')",
                        "float('inf')",
                        "5e-324",
                    )
                )
            case "str":
                return self._pick(
                    (
                        "''",
                        "'a'",
                        "'Hello, World'",
                        "' x y '",
                        "'宜蘭'",
                        "'ß é'",
                        "'12'",
                        "'-3.5'",
                        "'{\"a\": [1, null]}'",
                        "'a,b,,c'",
                        "'\\u2028'",
                        "'😀'",
                        "'2024-02-29'",
                        "'%s %d'",
                        "'{} {x}'",
                        "'aXbXc'",
                        "'true'",
                        "'\\t\\n'",
                    )
                )
            case "list":
                return self._pick(
                    (
                        "[]",
                        "[1, 2, 3]",
                        "['b', 'a']",
                        "[1, 'a', None]",
                        "[[1], [2, 3]]",
                        "[True, 1, 1.0]",
                        "[0.1, 0.2]",
                        "[{'a': 1}, {'a': 2}]",
                    )
                )
            case "dict":
                return self._pick(
                    (
                        "{}",
                        "{'a': 1}",
                        "{'a': {'b': [1, 2]}, 'c': None}",
                        "{1: 'a', True: 'b'}",
                        "{'x': 1.5, 'y': 'z'}",
                        "{None: 0, 'k': [1]}",
                    )
                )
            case "set":
                return self._pick(("set()", "{1, 2}", "{'a'}", "{1, 1.0, True}", "frozenset({3})"))
            case "bool":
                return self._pick(("True", "False"))
            case "iterator":
                return self._pick(
                    (
                        "iter([1, 2, 3])",
                        "(n * n for n in range(4))",
                        "map(str, [1, 2])",
                        "reversed('abc')",
                        "zip('ab', [1, 2])",
                        "iter({})",
                    )
                )
            case "tuple":
                return self._pick(("()", "(1,)", "('a', 2)", "(1, (2, 3))"))
            case "date":
                return self._pick(
                    (
                        "datetime(2024, 2, 29, 12, 30)",
                        "date(2023, 12, 31)",
                        "timedelta(days=1, hours=2)",
                        "datetime(2000, 1, 1, tzinfo=timezone.utc)",
                        "time(23, 59, 1)",
                    )
                )
            case _:
                return "None"

    def _int(self, depth: int) -> str:
        return self._pick((
            f"({self._of('int', depth)} {self._pick(('+', '-', '*', '//', '%', '&', '|', '^'))} {self._of('int', depth)})",
            f"len({self._any(depth)})", f"int({self._any(depth)})", f"sum({self._of('list', depth)})",
            f"({self._of('int', depth)} ** {self._small()})", f"abs({self._of('int', depth)})", f"ord({self._of('str', depth)}[0])",
            f"{self._of('str', depth)}.count({self._of('str', 0)})", f"{self._of('list', depth)}.index({self._any(0)})",
            f"round({self._of('float', depth)})", f"hash({self._pick(('1', '1.0', 'True', '2**61'))})", f"math.floor({self._of('float', depth)})",
            f"({self._of('int', depth)} if {self._any(depth)} else {self._of('int', depth)})", f"-{self._of('int', depth)}",
            f"({self._of('int', depth)} << {self._small()})", f"int({self._of('str', depth)}, {self._pick(('10', '16', '0'))})",
            f"max({self._of('list', depth)}, default=0)", f"len(list({self._of('iterator', depth)}))", f"divmod({self._of('int', depth)}, {self._of('int', 0)})[1]",
        ))  # fmt: skip

    def _float(self, depth: int) -> str:
        return self._pick((
            f"({self._of('float', depth)} {self._pick(('+', '-', '*', '/', '%', '//'))} {self._of('float', depth)})",
            f"({self._of('int', depth)} / {self._of('int', depth)})", f"float({self._any(depth)})", f"round({self._of('float', depth)}, {self._small()})",
            f"math.sqrt({self._of('float', depth)})", f"sum([{self._of('float', depth)}, 0.1, 0.2])", f"({self._of('float', 0)} ** 2)",
            f"statistics.mean({self._of('list', depth)})", f"float(Decimal('1.1') * {self._small()})", f"abs({self._of('float', depth)})",
            f"min({self._of('float', depth)}, {self._of('float', 0)})", f"math.fsum([0.1] * {self._small()})", f"time_of({self._of('date', depth)})",
        ))  # fmt: skip

    def _str(self, depth: int) -> str:
        text, other = self._of("str", depth), self._of("str", 0)
        return self._pick((
            f"str({self._any(depth)})", f"repr({self._any(depth)})", f"({text} + {other})", f"({text} * {self._small()})",
            f"{text}[{self._index()}:{self._index()}]", f"{text}[::{self._pick(('-1', '2', '-2'))}]", f"{text}[{self._index()}]",
            f"{text}.{self._pick(('upper', 'lower', 'strip', 'title', 'capitalize', 'swapcase', 'casefold', 'lstrip', 'rstrip'))}()",
            f"{text}.replace({other}, {self._of('str', 0)})", f"{other}.join({self._of('list', depth)})", f"{other}.join(map(str, {self._any(depth)}))",
            f"format({self._any(depth)}, {self._spec()!r})",
            f"'{{:{self._spec()}}}'.format({self._any(depth)})", f"('%{self._pick(('s', 'r', 'd', '5.2f', 'x', '05d', '-6s|', 'e', 'g'))}' % ({self._any(depth)},))",
            f"json.dumps({self._any(depth)}{self._pick(('', ', ensure_ascii=False', ', sort_keys=True', ', indent=1', ', default=str'))})",
            f"re.sub({self._pattern()}, {self._pick(REPLACEMENTS)}, {text})",
            f"{text}.{self._pick(('center', 'ljust', 'rjust', 'zfill'))}({self._small()})", f"{text}.encode('utf-8').hex()", f"{text}.partition({other})[{self._pick('012')}]",
            f"base64.b64encode({text}.encode()).decode()", f"hashlib.md5({text}.encode()).hexdigest()", f"{self._of('date', depth)}.isoformat()",
            f"{self._of('date', depth)}.strftime('%Y-%m-%d %A %j')", f"textwrap.shorten({text}, 10)", f"type({self._any(depth)}).__name__", f"chr({self._small()} + 60)",
            f"str(Decimal({self._of('str', 0)}))", f"{text}.removeprefix({other})", f"({text} or {other})", f"urllib.parse.quote({text})", f"html.escape({text})",
            f"str(Fraction({self._of('int', 0)}, 3))", f"unicodedata.normalize('NFD', {text})", f"ascii({self._any(depth)})",
        ))  # fmt: skip

    def _list(self, depth: int) -> str:
        item = self._new("i")
        return self._pick((
            f"[{self._any(depth)}, {self._any(depth)}]", f"list({self._any(depth)})", f"sorted({self._of('list', depth)})", f"sorted({self._any(depth)}, key=str, reverse=True)",
            f"[{item} for {item} in take({self._of('iterator', depth)})]", f"[str({item}) for {item} in {self._of('list', depth)} if {item}]",
            f"({self._of('list', depth)} + {self._of('list', 0)})", f"({self._of('list', depth)} * 2)", f"{self._of('list', depth)}[{self._index()}:{self._index()}:{self._pick(('', '2', '-1'))}]",
            f"{self._of('str', depth)}.split({self._pick(('', ',', 'X'))!r})" if self._chance.random() < 0.3 else f"{self._of('str', depth)}.split()",
            f"list({self._of('dict', depth)}.{self._pick(('keys', 'values', 'items'))}())", f"list(zip({self._of('list', depth)}, {self._of('iterator', depth)}))",
            f"list(enumerate({self._of('iterator', depth)}, {self._small()}))", f"re.findall({self._pattern()}, {self._of('str', depth)})", f"re.split({self._pattern()}, {self._of('str', depth)})",
            f"list(filter(None, {self._of('list', depth)}))", f"list(map({self._pick(('str', 'bool', 'type(1)', 'repr', 'lambda v: [v]'))}, {self._of('list', depth)}))",
            f"json.loads({self._of('str', depth)})", f"[[{item}, n] for {item} in {self._of('list', 0)} for n in range(2) if n]", f"sorted({self._of('set', depth)}, key=repr)",
            f"list(itertools.chain({self._of('list', depth)}, {self._of('iterator', 0)}))", f"list(itertools.islice({self._of('iterator', depth)}, 2))", f"Counter({self._of('list', depth)}).most_common(2)",
            f"[list(g) for _, g in itertools.groupby({self._of('list', depth)}, key=repr)]", f"list(itertools.combinations({self._of('list', 0)}, 2))", f"[*{self._of('iterator', depth)}, *{self._of('list', 0)}]",
            f"(lambda *a: list(a))(*{self._of('list', depth)})", f"(lambda g: list(zip(g, g)))({self._of('iterator', depth)})", f"list(reversed({self._of('list', depth)}))",
        ))  # fmt: skip

    def _dict(self, depth: int) -> str:
        item = self._new("k")
        return self._pick((
            f"{{{self._key()}: {self._any(depth)}, {self._key()}: {self._any(depth)}}}", f"dict({self._of('dict', depth)})", f"{{**{self._of('dict', depth)}, {self._key()}: {self._any(0)}}}",
            f"{{{item}: len(str({item})) for {item} in {self._of('list', depth)}}}", f"dict(zip({self._of('list', 0)}, {self._of('iterator', depth)}))", f"dict.fromkeys({self._of('list', depth)}, {self._any(0)})",
            f"({self._of('dict', depth)} | {self._of('dict', 0)})", f"json.loads({self._of('str', depth)})", f"json.loads(json.dumps({self._of('dict', depth)}))", f"dict(Counter({self._of('str', depth)}))",
            f"{{v: k for k, v in {self._of('dict', depth)}.items()}}", f"grouped({self._of('list', depth)})", f"copy.deepcopy({self._of('dict', depth)})", f"dict(sorted({self._of('dict', depth)}.items()))",
        ))  # fmt: skip

    def _set(self, depth: int) -> str:
        item = self._new("s")
        return self._pick((
            f"set({self._of('list', depth)})", f"({self._of('set', depth)} {self._pick('|&-^')} {self._of('set', 0)})", f"{{{item} for {item} in {self._of('list', depth)}}}", f"frozenset({self._of('iterator', depth)})",
        ))  # fmt: skip

    def _bool(self, depth: int) -> str:
        return self._pick((
            f"({self._any(depth)} {self._pick(('==', '!=', '<', '<=', '>', 'in', 'not in', 'is not'))} {self._any(depth)})", f"bool({self._any(depth)})", f"(not {self._any(depth)})",
            f"{self._pick(('any', 'all'))}({self._of('iterator', depth)})", f"isinstance({self._any(depth)}, {self._pick(('int', 'str', '(list, tuple)', 'bool', 'float', 'Mapping'))})",
            f"{self._of('str', depth)}.{self._pick(('isdigit', 'isalpha', 'isspace', 'islower', 'isidentifier', 'isnumeric'))}()", f"{self._of('str', depth)}.startswith({self._of('str', 0)})",
            f"({self._of('float', depth)} == {self._of('float', 0)})", f"({self._any(depth)} and {self._any(0)})", f"(1 < {self._of('int', depth)} < 100)", f"(re.match({self._pattern()}, {self._of('str', depth)}) is None)",
            f"({self._of('float', 0)} in {self._of('list', depth)})", f"math.isnan({self._of('float', depth)})", f"callable({self._any(0)})",
        ))  # fmt: skip

    def _iterator(self, depth: int) -> str:
        item = self._new("g")
        return self._pick((
            f"iter({self._any(depth)})", f"map({self._pick(('str', 'repr', 'lambda v: (v, v)', 'len'))}, {self._of('list', depth)})", f"filter({self._pick(('None', 'lambda v: v != 1', 'str'))}, {self._of('list', depth)})",
            f"zip({self._of('list', depth)}, {self._of('iterator', depth)})", f"enumerate({self._of('list', depth)})", f"reversed({self._of('list', depth)})", f"({item} for {item} in {self._of('iterator', depth)})",
            f"iter({self._of('dict', depth)}.items())", f"itertools.accumulate({self._of('list', depth)})", f"(str({item}) for {item} in {self._of('list', depth)} if {item})", f"itertools.zip_longest({self._of('list', depth)}, {self._of('str', 0)})",
            f"iter(range({self._small()}, {self._small()} * 3, {self._small()} or 1))", f"re.finditer({self._pattern()}, {self._of('str', depth)})", f"iter({self._of('str', depth)}.splitlines())",
        ))  # fmt: skip

    def _tuple(self, depth: int) -> str:
        return self._pick((
            f"({self._any(depth)}, {self._any(depth)})", f"tuple({self._of('list', depth)})", f"divmod({self._of('int', depth)}, {self._of('int', 0)})", f"{self._of('str', depth)}.partition({self._of('str', 0)})",
            f"next({self._of('iterator', depth)}, ('none',))", f"({self._of('tuple', depth)} + {self._of('tuple', 0)})", f"math.frexp({self._of('float', depth)})", f"struct.unpack('>i', struct.pack('>i', {self._of('int', depth)}))", f"Point({self._any(depth)}, {self._any(0)})",
        ))  # fmt: skip

    def _date(self, depth: int) -> str:
        return self._pick((
            f"({self._of('date', depth)} + timedelta(days={self._small()}))", f"({self._of('date', depth)} - {self._of('date', 0)})", f"datetime.fromisoformat({self._of('str', depth)})", f"{self._of('date', depth)}.replace(day={self._small()})",
            f"datetime.strptime({self._of('str', depth)}, '%Y-%m-%d')", f"datetime.fromtimestamp({self._small()} * 86400)", f"datetime.fromtimestamp({self._small()}, timezone.utc)", f"(timedelta(seconds={self._of('int', 0)}) / 2)",
        ))  # fmt: skip

    # --------------------------------------------------------------------------------------------------------- parts

    def _spec(self) -> str:
        return self._pick(
            (
                "",
                ">8",
                "<6",
                "^9",
                "*^7",
                "05d",
                ",",
                ".2f",
                ".3e",
                "x",
                "#b",
                "%",
                "+",
                "08.2f",
                "_",
                "g",
                "10s",
                "d",
                "n",
                ".0%",
                "=+6d",
                "c",
                ".3",
            )
        )

    def _pattern(self) -> str:
        return self._pick(
            (
                "r'\\d+'",
                "r'[a-z]+'",
                "r'(\\w)(\\w)?'",
                "r'\\s*'",
                "'a|b'",
                "r'X'",
                "r'^.'",
                "r'(?P<n>\\w+)'",
                "r'\\b'",
                "r'.$'",
                "r'[^,]*'",
            )
        )

    def _key(self) -> str:
        return self._pick(("'a'", "'b'", "1", "True", "1.0", "None", "(1, 2)", "'宜'", "0", "False"))

    def _index(self) -> str:
        return self._pick(("", "0", "1", "-1", "2", "5", "-3")) or "0"

    def _small(self) -> str:
        return str(self._chance.randint(0, 12))

    def _new(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _pick(self, choices: tuple[str, ...] | list[str] | str) -> str:
        return self._chance.choice(choices)


REPLACEMENTS = ("'-'", "r'<\\g<0>>'", "lambda m: m[0].upper()")
DEFAULTS = {
    "int": "3", "float": "1.5", "str": "'s'", "list": "[1]", "dict": "{'a': 1}", "set": "{1}", "bool": "True",
    "iterator": "iter([1])", "none": "None", "tuple": "(1,)", "date": "date(2024, 1, 1)",
}  # fmt: skip

HEAD = """
import base64, copy, hashlib, html, itertools, json, math, re, statistics, struct, textwrap, unicodedata, urllib.parse
from collections import Counter, defaultdict, namedtuple
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

Point = namedtuple('Point', 'x y')

def take(values, most=20):
    return list(itertools.islice(values, most))

def time_of(value):
    return value.timestamp() if isinstance(value, datetime) else value.total_seconds()

def grouped(values):
    groups = defaultdict(list)
    for value in values:
        groups[str(value)[:1]].append(value)
    return groups

def clean(text):
    return re.sub(r'0x[0-9a-f]+', '0x', text)[:2000]

def plain(value, depth=0):
    if isinstance(value, BaseException):
        return [type(value).__name__, clean(str(value))]
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, sorted(clean(repr(item)) for item in value)]
    if isinstance(value, (list, tuple)) and depth < 5:
        return [type(value).__name__, [plain(item, depth + 1) for item in value[:50]]]
    if isinstance(value, dict) and depth < 5:
        return [type(value).__name__, [[plain(k, depth + 1), plain(v, depth + 1)] for k, v in list(value.items())[:50]]]
    return [type(value).__name__, clean(repr(value))]

def note(out, value):
    out.append(plain(value))
"""


@lru_cache(256)  # to write one takes longer than to run it
def program(seed: int) -> str:
    """A program whose `program([])` returns the list of what it came to."""
    return Writer(seed).program()
