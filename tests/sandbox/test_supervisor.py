"""Filters that ask, and what answers them: each test runs a small supervisor with one confined child."""

import json
import platform
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from headrace.adapters.sandbox import seccomp, system_calls
from headrace.adapters.sandbox.seccomp import ALLOW, ASK, REFUSE, Unconfined, error, if_any, if_null, if_one_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")

# Runs `child()` in a confined process, with the names below, and prints what it returned, with the supervisor's count.
_PROGRAM = """
import contextlib, errno, json, os, platform, select, socket, sys, threading, time
from headrace.adapters.sandbox.confine import no_new_privileges
from headrace.adapters.sandbox.seccomp import *
from headrace.adapters.sandbox.supervisor import Guard, Policy, Supervisor
from headrace.adapters.sandbox.system_calls import NUMBERS, number

def kind(action):
    try:
        return action() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
    except RuntimeError as error:
        return type(error).__name__

def everything_but(**rules):
    return dict.fromkeys(NUMBERS, ALLOW) | {"clone3": error(errno.ENOSYS), "sendmsg": SEND_HOME} | rules

def supervised(rules, child, policy, *, serve=True):
    supervisor = Supervisor()
    ours, theirs = socket.socketpair()
    answers, answer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(answers)
            ours.close()
            home = move_to_home(theirs)
            no_new_privileges()
            Filter(rules).install_asking(home)
            os.write(answer, json.dumps(child()).encode())
        except BaseException as failure:
            os.write(answer, json.dumps(repr(failure)).encode())
        finally:
            os._exit(0)
    os.close(answer)
    theirs.close()
    watch = supervisor.expect(ours, policy)
    text = b""
    while True:
        ready, _, _ = select.select([answers, supervisor], [], [], 20)
        assert ready, "nobody answers"
        if supervisor in ready:
            supervisor.attend()
            if not serve and watch.listener >= 0:
                supervisor.close()
                text = os.read(answers, 100000)
                break
        elif piece := os.read(answers, 100000):
            text += piece
        else:
            break
    os.waitpid(pid, 0)
    return {"child": json.loads(text), "ready": watch.ready, "started": watch.started}
"""


def outcome(program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@linux
def test_what_only_the_start_needs_is_refused_afterwards() -> None:
    received = outcome("""
        def child():
            before = kind(lambda: os.path.exists("/") and os.open("/dev/null", os.O_RDONLY) and "opened")
            heard = os.getpriority(os.PRIO_PROCESS, 0)
            after = kind(lambda: os.open("/dev/null", os.O_RDONLY) and "opened")
            return [before, heard, after, kind(lambda: os.stat("/"))]
        rules = everything_but(openat=ASK, newfstatat=ASK, stat=ASK, getpriority=ASK)
        print(json.dumps(supervised(rules, child, Policy())))
    """)
    assert received["child"] == ["opened", 0, "EPERM", "EPERM"]
    assert received["ready"]


@linux
def test_threads_are_counted_as_they_live() -> None:
    """Not as they are started: a program may start one after another for as long as it likes."""
    received = outcome("""
        def bomb():
            event, threads = threading.Event(), []
            while len(threads) < 100:
                thread = threading.Thread(target=event.wait, daemon=True)
                threads.append(thread)
                try:
                    thread.start()
                except RuntimeError:
                    threads.pop()
                    break
            event.set()
            for thread in threads:
                thread.join()
            return len(threads)
        def child():
            first = bomb()
            for _ in range(50):
                thread = threading.Thread(target=str)
                while kind(thread.start) == "RuntimeError":  # the one before is about to be gone
                    time.sleep(0.001)
                thread.join()
            return [first, kind(os.fork)]
        rules = everything_but(clone=if_any(0, CLONE_THREAD, ASK, REFUSE))
        print(json.dumps(supervised(rules, child, Policy(threads=8))))
    """)
    assert received["child"] == [7, "EPERM"]
    assert received["started"] == 57


@linux
def test_every_connection_leads_to_the_guard() -> None:
    received = outcome("""
        def guard(server, heard):
            while True:
                connection, _ = server.accept()
                heard.append(connection.recv(100).decode())
                connection.sendall(b"guarded")
                connection.close()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as victim:
            heard = []
            threading.Thread(target=guard, args=(server, heard), daemon=True).start()
            def child():
                a = socket.create_connection(victim.getsockname())
                b = socket.create_connection(("192.0.2.1", 80), 5)
                c = socket.socket()
                kinds = [a.recv(100).decode(), b.recv(100).decode(), os.get_blocking(a.fileno()),
                         os.get_blocking(b.fileno()), a.getpeername()[1] == server.getsockname()[1]]
                return kinds
            policy = Policy(guard=Guard("127.0.0.1", server.getsockname()[1], b"token"))
            result = supervised(everything_but(connect=ASK), child, policy)
            victim.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                result["visited"] = bool(victim.accept())
            print(json.dumps(result | {"heard": heard}))
    """)
    assert received["child"] == ["guarded", "guarded", True, False, True]
    assert received["heard"] == ["token", "token"]
    assert "visited" not in received


@linux
def test_without_a_guard_nothing_is_connected() -> None:
    received = outcome("""
        with socket.create_server(("127.0.0.1", 0)) as server:
            closed = socket.create_server(("127.0.0.1", 0))
            address = closed.getsockname()
            closed.close()
            def child():
                return kind(lambda: socket.create_connection(server.getsockname()))
            rules = everything_but(connect=ASK)
            without = supervised(rules, child, Policy())["child"]
            gone = supervised(rules, child, Policy(guard=Guard(*address, b"token")))["child"]
            print(json.dumps([without, gone]))
    """)
    assert received == ["EPERM", "ECONNREFUSED"]


@linux
def test_where_nobody_answers_the_call_is_not_made() -> None:
    received = outcome("""
        def child():
            return [kind(lambda: os.open("/dev/null", os.O_RDONLY)), kind(lambda: threading.Thread(target=str).start())]
        rules = everything_but(openat=ASK, clone=if_any(0, CLONE_THREAD, ASK, REFUSE))
        print(json.dumps(supervised(rules, child, Policy(threads=8), serve=False)))
    """)
    assert received["child"] == ["ENOSYS", "RuntimeError"]


@linux
def test_a_confined_process_cannot_answer_for_itself() -> None:
    """It keeps neither the listener nor the socket that it went through."""
    received = outcome("""
        def child():
            names = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2
                     and os.path.exists(f"/proc/self/fd/{n}")]
            return [name for name in names if "seccomp" in name] + [kind(lambda: os.fstat(HOME))]
        print(json.dumps(supervised(everything_but(), child, Policy())))
    """)
    assert received["child"] == ["EBADF"]


@linux
def test_a_child_that_dies_before_it_is_confined_is_forgotten() -> None:
    received = outcome("""
        supervisor = Supervisor()
        ours, theirs = socket.socketpair()
        watch = supervisor.expect(ours, Policy())
        theirs.close()
        select.select([supervisor], [], [], 20)
        supervisor.attend()
        print(json.dumps([watch.listener, select.select([supervisor], [], [], 0)[0]]))
    """)
    assert received == [-1, []]


@linux
def test_rules_decide_by_arguments() -> None:
    received = outcome("""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def call(first, last):
            ctypes.set_errno(0)
            libc.syscall(*map(ctypes.c_long, (number("sysinfo", platform.machine()), first, last)))
            return ctypes.get_errno()
        def under(rule):
            return supervised(everything_but(sysinfo=rule), lambda: [
                call(0, 0), call(0, 1), call(0, 6), call(1 << 40, 0), call(0, 1 << 40)], Policy())["child"]
        one, two = error(71), error(72)
        print(json.dumps([under(if_any(1, 6, one, two)), under(if_one_of(1, [6, 1], one, two)),
                          under(if_one_of(1, [2], one, two, mask=3)), under(if_null(0, one, two)),
                          under(if_null(1, one, two))]))
    """)
    assert received == [
        [72, 72, 71, 72, 72],
        [72, 71, 71, 72, 72],
        [72, 72, 71, 72, 72],
        [71, 71, 71, 72, 71],
        [71, 72, 72, 71, 72],
    ]


def verdict(program: bytes, architecture: int, call: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel's machine makes of a call: the instructions that `seccomp` uses, and no others."""
    import struct

    words = [call, architecture, 0, 0] + [
        half for value in (*arguments, *[0] * 6)[:6] for half in (value & 0xFFFFFFFF, value >> 32)
    ]
    lines, at, value = [struct.unpack_from("HBBI", program, place) for place in range(0, len(program), 8)], 0, 0
    while True:
        code, true, false, operand = lines[at]
        at += 1
        match code:
            case 0x20:
                value = words[operand // 4]
            case 0x54:
                value &= operand
            case 0x15:
                at += true if value == operand else false
            case 0x35:
                at += true if value >= operand else false
            case 0x45:
                at += true if value & operand else false
            case 0x06:
                return operand
            case _:
                raise AssertionError(code)


@pytest.mark.parametrize("machine", system_calls.ARCHITECTURES)
def test_a_filter_judges_by_the_numbers_of_its_architecture(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The aarch64 one is walked through here, instruction by instruction; there is no such machine to run it on."""
    audit = system_calls.ARCHITECTURES[machine][0]
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", "linux")
    rules = {"read": ALLOW, "clone": if_any(0, seccomp.CLONE_THREAD, ASK, REFUSE), "poll": ALLOW}
    program = seccomp._assembled(rules, machine)  # pyright: ignore[reportPrivateUsage]
    read, clone = {"x86_64": (0, 56), "aarch64": (63, 220)}[machine]
    allow, ask, refuse, kill = 0x7FFF0000, 0x7FC00000, 0x50001, 0x80000000
    assert verdict(program, audit, read) == allow
    assert verdict(program, audit, clone, (0x10000,)) == ask
    assert verdict(program, audit, clone, (17,)) == refuse
    assert verdict(program, audit, 7) == (allow if machine == "x86_64" else refuse)
    assert verdict(program, audit, 999) == refuse
    assert verdict(program, audit, 0x40000000) == kill
    assert verdict(program, audit ^ 1, read) == kill
    assert len({numbers[1] for numbers in system_calls.NUMBERS.values()} - {None}) == sum(
        numbers[1] is not None for numbers in system_calls.NUMBERS.values()
    )


def test_where_none_is_known_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(Unconfined, match="vax"):
        seccomp.Filter({"read": error(1), "exit": if_one_of(0, [1], ALLOW, if_null(0, ALLOW, REFUSE))})
