"""Python that reaches for files, the network, other processes and the kernel; the call after it works."""

import os
from pathlib import Path

import pytest

from headrace.adapters.sandbox import LocalSandbox
from tests.sandbox.attacks import main_of, refused, untouched, works

pytestmark = pytest.mark.asyncio(loop_scope="module")


FILES = {
    "open": "return {'got': open(path).read()}",
    "os.open": "import os\nreturn {'got': os.read(os.open(path, os.O_RDONLY), 99).decode()}",
    "pathlib": "import pathlib\nreturn {'got': pathlib.Path(path).read_text()}",
    "io through a class": "import io\nreturn {'got': io.FileIO(path).read().decode()}",
    "look": "import os\nreturn {'got': os.stat(path).st_size}",
    "list": "import os\nreturn {'got': os.listdir(os.path.dirname(path))}",
    "glob": "import glob, os\nfound = glob.glob('/*')\nassert found\nreturn {'got': found}",
    "link": "import os\nreturn {'got': os.readlink('/proc/self/exe')}",
    "proc": "return {'got': open('/proc/self/environ').read()}",
    "parent's memory": "import os\nreturn {'got': open(f'/proc/{os.getppid()}/mem', 'rb').read(1)}",
    "write": "open(path, 'w').write('gone')\nreturn {'got': 1}",
    "remove": "import os\nos.remove(path)\nreturn {'got': 1}",
    "rename": "import os\nos.rename(path, path + 'x')\nreturn {'got': 1}",
    "mode": "import os\nos.chmod(path, 0)\nreturn {'got': 1}",
    "temporary file": "import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x')\nreturn {'got': 1}",
    "linecache": "import linecache\nlines = linecache.getlines(path)\nassert lines\nreturn {'got': lines}",
    "a library": "import aiohttp\nreturn {'got': 1}",
    "the service": "import headrace.settings\nreturn {'got': 1}",
    "a library's loader": (
        "import importlib.machinery as m\nreturn {'got': m.SourceFileLoader('s', path).get_data(path).decode()}"
    ),
    "getattr": "return {'got': getattr(__builtins__, 'op' + 'en')(path).read()}",
    "subclasses": (
        "for c in ().__class__.__base__.__subclasses__():\n"
        "    if c.__name__ == 'FileLoader':\n"
        "        return {'got': c('s', path).get_data(path).decode()}"
    ),
    "frames": (
        "import sys\n"
        "f = sys._getframe()\n"
        "while f.f_back:\n"
        "    f = f.f_back\n"
        "return {'got': f.f_builtins['open'](path).read()}"
    ),
    "C": (
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "fd = libc.open(path.encode(), 0)\n"
        "assert fd >= 0, ctypes.get_errno()\n"
        "return {'got': fd}"
    ),
}


@pytest.mark.parametrize("attack", FILES)
async def test_files_stay_out_of_reach(confined: LocalSandbox, secrets: Path, attack: str) -> None:
    await refused(confined, main_of(FILES[attack]), {"path": str(secrets), "port": 0})
    await works(confined)
    assert untouched(secrets)


NETWORK = {
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', port), 1)\nreturn {'got': 1}",
    "urllib": "import urllib.request as u\nreturn {'got': u.urlopen(f'http://127.0.0.1:{port}/', timeout=1).status}",
    "http.client": (
        "import http.client\nc = http.client.HTTPConnection('127.0.0.1', port, timeout=1)\n"
        "c.request('GET', '/')\nreturn {'got': 1}"
    ),
    "names": "import socket\nreturn {'got': socket.getaddrinfo('localhost', 80)[0][4][0] + 'x' * (1 // 0)}",
    "listen": "import socket\ns = socket.create_server(('127.0.0.1', 0))\nreturn {'got': 1}",
    "unix": (
        "import socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(b'x', '/dev/log')\nreturn {'got': 1}"
    ),
    "a datagram pair, to elsewhere": (
        "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\nreturn {'got': 1}"
    ),
    "the answer's socket, to elsewhere": (
        "import socket\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=3)\n"
        "s.sendto(b'x', '/dev/log')\n"
        "return {'got': 1}"
    ),
    "asyncio": (
        "import asyncio\nasync def go():\n    await asyncio.open_connection('127.0.0.1', port)\n"
        "asyncio.run(go())\nreturn {'got': 1}"
    ),
}


@pytest.mark.parametrize("attack", NETWORK)
async def test_nobody_is_called(confined: LocalSandbox, visited: tuple[int, list[bytes]], attack: str) -> None:
    port, came = visited
    await refused(confined, main_of(NETWORK[attack]), {"path": "", "port": port})
    assert came == []
    await works(confined)


PROCESSES = {
    "fork": "import os\nif os.fork() == 0:\n    os._exit(0)\nreturn {'got': 1}",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "subprocess": "import subprocess\nreturn {'got': subprocess.run(['id'], capture_output=True).stdout.decode()}",
    "system": "import os\nassert os.system('true') == 0\nreturn {'got': 1}",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "spawn": "import os\nreturn {'got': os.posix_spawn('/bin/true', ['true'], {})}",
    "multiprocessing": (
        "import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start()\nreturn {'got': 1}"
    ),
    "kill the parent": "import os\nos.kill(os.getppid(), 9)\nreturn {'got': 1}",
    "kill everyone": "import os\nos.kill(-1, 9)\nreturn {'got': 1}",
    "signal the group": "import os\nos.killpg(0, 9)\nreturn {'got': 1}",
    "priority": "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\nreturn {'got': 1}",
    "root again": "import os\nos.setuid(0)\nreturn {'got': 1}",
    "more memory": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn {'got': 1}"),
    "subclasses": (
        "import sys\n"
        "for c in ().__class__.__base__.__subclasses__():\n"
        "    if c.__name__ == 'Popen':\n"
        "        return {'got': c('id').pid}\n"
        "import subprocess\nreturn {'got': subprocess.Popen('id').pid}"
    ),
    "format string": "return {'got': '{0.__class__.__init__.__globals__[os].system}'.format(main)}",
}


@pytest.mark.parametrize("attack", PROCESSES)
async def test_there_are_no_other_processes(confined: LocalSandbox, attack: str) -> None:
    await refused(confined, main_of(PROCESSES[attack]), {"path": "", "port": 0})
    await works(confined)


SYSCALLS = {  # by the numbers of x86_64 and aarch64
    "openat2": (437, 437),
    "socket": (41, 198),
    "sendmsg": (46, 211),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "io_uring_setup": (425, 425),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "unshare": (272, 97),
    "mount": (165, 40),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "execve": (59, 221),
    "execveat": (322, 281),
    "pidfd_open": (434, 434),
    "tgkill": (234, 131),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "newfstatat": (262, 79),
    "fcntl": (72, 25),
    "shmget": (29, 194),
    "setns": (308, 268),
}


@pytest.mark.parametrize("name", SYSCALLS)
async def test_the_kernel_refuses_what_is_not_needed(confined: LocalSandbox, name: str) -> None:
    number = SYSCALLS[name][os.uname().machine == "aarch64"]
    code = (
        "import ctypes, errno\n"
        "def main(number):\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    done = libc.syscall(number, *[ctypes.c_long(0)] * 6)\n"
        "    return {'done': done, 'error': errno.errorcode.get(ctypes.get_errno())}\n"
    )
    assert await confined.run("python3", code, {"number": number}, 60) == {"done": -1, "error": "EPERM"}


OPENING = {
    "for writing": "O_WRONLY",
    "for reading and writing": "O_RDWR",
    "to make it": "O_CREAT",
    "to empty it": "O_TRUNC",
    "to append": "O_APPEND",
    "without a name": "O_TMPFILE",
    "to point at it": "O_PATH",
}


@pytest.mark.parametrize("how", OPENING)
async def test_nothing_is_opened_but_for_reading(confined: LocalSandbox, how: str) -> None:
    """Also not what may be read: the standard library."""
    code = (
        "import errno, os\n"
        "def main(flag):\n"
        "    errors = []\n"
        "    for path in (os.__file__, os.path.dirname(os.__file__), '/tmp', '/nowhere'):\n"
        "        try:\n"
        "            errors.append(os.open(path, getattr(os, flag)))\n"
        "        except OSError as error:\n"
        "            errors.append(errno.errorcode[error.errno])\n"
        "    return {'errors': errors, 'read': len(open(os.__file__).read()) > 1000}\n"
    )
    assert await confined.run("python3", code, {"flag": OPENING[how]}, 60) == {"errors": ["EPERM"] * 4, "read": True}


async def test_memory_cannot_be_made_executable(confined: LocalSandbox) -> None:
    code = "import mmap\ndef main():\n    return {'got': len(mmap.mmap(-1, 4096, prot=7))}"
    assert "PermissionError" in await refused(confined, code, {})
