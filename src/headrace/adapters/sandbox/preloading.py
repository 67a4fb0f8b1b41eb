"""Modules that a zygote imports, so that its children need not."""

from __future__ import annotations

import contextlib
import encodings
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from io import BytesIO

from headrace.adapters.sandbox import templates
from headrace.adapters.sandbox.confine import refuse_effects

_MODULES = """
__future__ _strptime abc array asyncio base64 binascii bisect calendar cmath codecs collections collections.abc
colorsys concurrent.futures.thread contextlib copy csv ctypes dataclasses datetime decimal difflib email.utils enum
fractions functools hashlib heapq hmac html html.entities html.parser inspect io ipaddress itertools json keyword
locale logging math numbers operator os.path pathlib pickle pprint queue random re secrets shlex statistics string
struct sys textwrap threading time timeit traceback types typing unicodedata urllib.error urllib.parse
uuid warnings weakref xml.dom.minidom xml.etree.ElementTree zlib zoneinfo
"""
_OURS = ("_quickjs", "jinja2.constants", "jinja2.debug")
# Extension modules for Python's tests, or that need a terminal, a display or a sound card.
_NOT_LOADED = ("_test", "_xxtest", "xx", "_ctypes_test", "_tkinter", "_curses", "readline", "ossaudiodev", "nis")


def standard(*, everything: bool) -> None:
    """Imports modules of the standard library that programs use, and all extension modules, which cannot be loaded in a
    confined process. `everything`: also data that is read from files."""
    _load([*_MODULES.split(), *_OURS, *_extensions()])
    if everything:
        _load(f"encodings.{module.name}" for module in pkgutil.iter_modules(encodings.__path__))
        _keep_time_zones()
    templates.environment().from_string("{{ 1 }}").render()
    # set here, because it would be determined by writing; libraries ask for it and handle failing writes
    tempfile.tempdir = "/tmp"
    time.tzset()
    time.localtime()


def packages(modules: tuple[str, ...]) -> None:
    """Imports modules of the operator's packages. First this process and its children lose the ability to start
    programs and write files, because imports run third-party code."""
    refuse_effects()
    _load(modules)


def _load(modules: Iterable[str]) -> None:
    for name in modules:
        # an import that fails here fails again, and is reported, where it is used
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _extensions() -> list[str]:
    folders = [path for path in sys.path if os.path.basename(path) == "lib-dynload" and os.path.isdir(path)]
    names = {
        name.partition(".")[0]
        for folder in folders
        for name in os.listdir(folder)
        if name.endswith(EXTENSION_SUFFIXES[0])
    }
    return sorted(name for name in names if not name.startswith(_NOT_LOADED))


def _keep_time_zones() -> None:
    """Loads all time zones into memory, because `zoneinfo` reads a file for each on first use."""
    import zoneinfo
    from zoneinfo import _common  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownVariableType]

    zones: dict[str, bytes] = {}
    for root in zoneinfo.TZPATH:
        for name in zoneinfo.available_timezones():
            with contextlib.suppress(OSError), open(os.path.join(root, name), "rb") as file:
                zones.setdefault(name, file.read())

    def load(key: str) -> BytesIO:
        if key not in zones:
            raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
        return BytesIO(zones[key])

    if zones:
        zoneinfo.reset_tzpath(to=())
        _common.load_tzdata = load
