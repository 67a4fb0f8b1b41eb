"""Filters of system calls (seccomp): an allow-list, put together from rules, that the calling process puts on itself.

A rule is one call's verdict, or a decision over its arguments that ends in verdicts:

    ALLOW     the call is made
    REFUSE    it fails with EPERM; so does every call without a rule, unless the filter says otherwise
    ASK       the call waits, and the supervisor that holds the filter's listener decides (`supervisor`)

    Filter({"read": ALLOW, "clone": if_any(0, CLONE_THREAD, ASK, REFUSE)})

The kernel looks at numbers only, never at what an address points to: a rule can tell flags, descriptors and null
pointers apart, not paths or network addresses. Of an argument the lower 32 bits are compared, which is what the kernel
itself takes of flags and descriptors; `if_null` compares all 64.

`Filter.install` is for filters that do not ask. `Filter.install_asking(home)` puts one on and sends its listener
through the socket `home`, which must be descriptor `HOME` (see `at_home`): by then `sendmsg` is under the filter, so
that the filter has to allow it there: `"sendmsg": SEND_HOME`. Nothing in this process can answer for itself afterwards:
it closes both. Where the supervisor dies, every call that asks fails with ENOSYS.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Iterable, Mapping

from headrace.adapters.sandbox.system_calls import ARCHITECTURES, number


class Unconfined(RuntimeError):
    """This system does not let a process be confined; the text says what lacks."""


Rule = tuple[tuple[int, int, int, int], ...]  # instructions: code, jump if true, jump if false, operand

CLONE_THREAD = 0x10000
HOME = 199  # above every RLIMIT_NOFILE in use here, so that nothing can take this number once it is closed

NO_LISTENER = "the kernel refused a filter of system calls that asks"  # how that error begins
_NO_FILTER = "the kernel refused a filter of system calls"
_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_KILL, _USER_NOTIF, _ERRNO, _ALLOW = 0x80000000, 0x7FC00000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data
_X32 = 0x40000000  # from here on numbers are those of x86_64's third kind of program
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_LONGEST_JUMP = 255


def _load(argument: int, high: bool = False) -> tuple[int, int, int, int]:
    return (_LD, 0, 0, 16 + 8 * argument + (4 if high else 0))  # both architectures are little-endian


def error(number: int) -> Rule:
    """The call fails with this errno."""
    return ((_RET, 0, 0, _ERRNO | number),)


ALLOW: Rule = ((_RET, 0, 0, _ALLOW),)
REFUSE: Rule = error(errno.EPERM)
ASK: Rule = ((_RET, 0, 0, _USER_NOTIF),)


def if_any(argument: int, bits: int, then: Rule, otherwise: Rule) -> Rule:
    """`then` if the argument (from 0) has any of the bits."""
    return (_load(argument), (_JSET, 0, len(then), bits), *then, *otherwise)


def if_one_of(argument: int, values: Iterable[int], then: Rule, otherwise: Rule, mask: int = 0xFFFFFFFF) -> Rule:
    """`then` if the argument, of which only `mask` counts, is one of the values."""
    numbers = tuple(values)
    jumps = tuple((_JEQ, len(numbers) - 1 - at + len(otherwise), 0, value) for at, value in enumerate(numbers))
    return (_load(argument), (_AND, 0, 0, mask), *jumps, *otherwise, *then)


def if_null(argument: int, then: Rule, otherwise: Rule) -> Rule:
    """`then` if all 64 bits of the argument are 0."""
    return (
        _load(argument),
        (_JEQ, 0, 2 + len(then), 0),
        _load(argument, high=True),
        (_JEQ, 0, len(then), 0),
        *then,
        *otherwise,
    )


SEND_HOME: Rule = if_one_of(0, [HOME], ALLOW, REFUSE)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Filter:
    """A filter, made ready once; calls that this architecture has not are left out. Unconfined where none is known.

    `others` is the verdict on calls without a rule."""

    def __init__(self, rules: Mapping[str, Rule], others: Rule = REFUSE) -> None:
        machine = platform.machine()
        if sys.platform != "linux" or machine not in ARCHITECTURES:
            raise Unconfined(f"no confinement is known for {sys.platform} on {machine}")
        text = _assembled(rules, machine, others)
        self._program = _Program(len(text) // 8, text)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._seccomp = ctypes.c_long(number("seccomp", machine) or 0)

    def install(self) -> None:
        """On the calling thread and all it starts, for good; no_new_privs must be set. Unconfined if refused."""
        self._install(0)

    def install_asking(self, home: socket.socket) -> None:
        """As `install`; sends the listener through `home` (`at_home`) and closes both in this process."""
        if home.fileno() != HOME:
            raise ValueError(f"the socket home is descriptor {home.fileno()}, not {HOME}")
        listener = self._install(_NEW_LISTENER)
        try:
            socket.send_fds(home, [b"L"], [listener])
        finally:
            os.close(listener)
            home.close()

    def _install(self, flags: int) -> int:
        program = ctypes.byref(self._program)
        result = self._libc.syscall(self._seccomp, ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(flags), program)
        if result < 0:
            why = os.strerror(ctypes.get_errno())
            raise Unconfined(f"{NO_LISTENER if flags else _NO_FILTER}: {why}")
        return result


def at_home(connection: socket.socket) -> socket.socket:
    """The socket under the descriptor `HOME`, closed on exec; `connection` itself is closed. Before RLIMIT_NOFILE."""
    os.dup2(connection.fileno(), HOME, inheritable=False)
    connection.close()
    return socket.socket(fileno=HOME)


def _assembled(rules: Mapping[str, Rule], machine: str, others: Rule = REFUSE) -> bytes:
    code = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, ARCHITECTURES[machine][0]),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NUMBER),
        (_JGE, 0, 1, _X32),
        (_RET, 0, 0, _KILL),
    ]
    for name, rule in rules.items():
        if (call := number(name, machine)) is None:
            continue
        if len(rule) > _LONGEST_JUMP:
            raise ValueError(f"the rule of {name} is too long")
        code += [(_JEQ, 0, len(rule), call), *rule]
    code += others
    return b"".join(struct.pack("HBBI", *line) for line in code)
