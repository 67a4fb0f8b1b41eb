"""What the figures were measured on, and what processes take."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path


def facts() -> str:
    """The machine in a line; nothing in it names a host, a user or a folder."""
    parts = [f"{cores()} cores", _processor(), f"{platform.system()} {platform.machine()}"]
    parts.append(f"{platform.python_implementation()} {platform.python_version()}")
    return ", ".join(part for part in parts if part)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> str:
    """How busy the machine is already; the figures of a busy one are worse than its best."""
    try:
        return f"load average {os.getloadavg()[0]:.1f} at the start"
    except OSError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    output = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in output.splitlines())}
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def processor_seconds(pid: int) -> float:
    """The processor time that a process has taken so far, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def processor_seconds_of_server(pid: int) -> float:
    """The same, and its children: PostgreSQL has one for each connection."""
    seconds = 0.0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError):  # it has just ended
            seconds += processor_seconds(int(child))
    return seconds + processor_seconds(pid)


def proportional_mb(pid: int) -> float:
    """The memory of a process and its children, in MB (10^6 bytes): a page counts in proportion to how many processes
    share it (PSS)."""
    total = 0
    for member in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def resident_mb(pid: int) -> float:
    """The resident memory of a process and its children, in MB (10^6 bytes); shared pages count in each of them."""
    pids = ",".join(map(str, family(pid)))
    output = subprocess.run(["ps", "-o", "rss=", "-p", pids], capture_output=True, text=True, check=False).stdout
    return sum(int(line) for line in output.split()) * 1024 / 1e6
