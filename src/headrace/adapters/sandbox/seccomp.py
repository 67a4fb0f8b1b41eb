"""Filters of system calls (seccomp): an allow-list of rules that the calling process puts on itself.

A rule is the verdict for a call, or a decision by its arguments that ends in verdicts:

    ALLOW     the call is made
    REFUSE    it fails with EPERM, like every call without a rule, unless the filter says otherwise
    ASK       the call waits, and the supervisor that has the filter's listener decides (`supervisor`)

    Filter({"read": ALLOW, "clone": if_any(0, CLONE_THREAD, ASK, REFUSE)})

The kernel only checks numbers, never the memory that they point to: a rule can distinguish flags, descriptors and null
pointers, but not paths or network addresses. The lower 32 bits of an argument are compared, which are all that the
kernel uses of flags and descriptors; `if_null` compares all 64.

`Filter.install` is for filters without ASK. `Filter.install_asking(home)` installs one and sends its listener through
the socket `home`, which must be descriptor `HOME` (see `move_to_home`): the filter applies to that `sendmsg` already,
and must allow it by `"sendmsg": SEND_HOME`. Both are closed then, so that the process cannot answer its own calls. If
the supervisor ends, every call with ASK fails with ENOSYS.
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
    """This system does not support the confinement; the message says why."""


Rule = tuple[tuple[int, int, int, int], ...]  # instructions: code, jump if true, jump if false, operand

CLONE_THREAD = 0x10000
HOME = 199  # above every RLIMIT_NOFILE in use here, so that the number cannot be reused once it is closed

NO_LISTENER = "the kernel refused a supervised filter of system calls"  # the beginning of that error
_NO_FILTER = "the kernel refused a filter of system calls"
_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_KILL, _USER_NOTIF, _ERRNO, _ALLOW = 0x80000000, 0x7FC00000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data
_X32 = 0x40000000  # numbers from here on are of the x32 ABI
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
    """`then` if the argument, masked by `mask`, is one of the values."""
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
    """A filter, assembled once, without calls that this architecture does not have. Unconfined if it is not supported.

    `others` is the verdict for calls without a rule."""

    def __init__(self, rules: Mapping[str, Rule], others: Rule = REFUSE) -> None:
        machine = platform.machine()
        if sys.platform != "linux" or machine not in ARCHITECTURES:
            raise Unconfined(f"confinement is not supported for {sys.platform} on {machine}")
        text = _assembled(rules, machine, others)
        self._program = _Program(len(text) // 8, text)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._seccomp = ctypes.c_long(number("seccomp", machine) or 0)

    def install(self) -> None:
        """Installs it permanently on the calling thread and its children; no_new_privs must be set. Unconfined."""
        self._install(0)

    def install_asking(self, home: socket.socket) -> None:
        """Like `install`; sends the listener through `home` (`move_to_home`) and closes both in this process."""
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


def move_to_home(connection: socket.socket) -> socket.socket:
    """The socket as descriptor `HOME`, closed on exec; `connection` is closed. To be called before RLIMIT_NOFILE."""
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
