"""`-n 4`, or `-n auto`: runs the tests in several processes, which are forked when the tests have been collected.

To import and collect ten thousand tests takes 12 s of CPU time and 500 MB of memory: one process does it for all.

A process is given one group of tests at a time: the tests of a file, or those of a folder whose fixtures are expensive.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from warnings import WarningMessage

import pytest

Indexes = Sequence[int]  # of a session's items


def add_option(parser: pytest.Parser) -> None:
    # pytest reserves options of one small letter for itself, and its plugins take this one
    parser.getgroup("parallel")._addoption(
        "-n", dest="workers", type=_count, default=0, metavar="N", help="processes that run tests; auto: by the cores"
    )


def _count(text: str) -> int:
    """More processes than cores: tests of servers wait a third of the time, for sockets, disks and timers."""
    return (os.cpu_count() or 1) + 3 if text == "auto" else int(text)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several that run tests, and not the one that reports."""
    return hasattr(config, "workerinput")


def run(session: pytest.Session, groups: Sequence[Indexes]) -> bool | None:
    """Runs the tests if several processes are to do it."""
    options = session.config.option
    if not options.workers or options.collectonly or options.usepdb or not hasattr(os, "fork"):
        return None
    if session.testsfailed and not options.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    capture = session.config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()  # a process captures its own output
    pool = Pool(session, groups)
    try:
        pool.run(options.workers)
    finally:
        pool.close()
        capture.start_global_capturing()
    return True


# ----------------------------------------------------------------------------------------- in the process that reports


@dataclass(eq=False)
class Worker:
    """A process that runs tests."""

    process: BaseProcess
    connection: Connection
    pending: deque[int] = field(default_factory=deque[int])  # the first one has been started, if `started`
    started: bool = False

    def give(self, group: Indexes | None) -> None:
        self.pending.extend(group or ())
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: the next read says so
            self.connection.send(group)

    def start(self, index: int) -> None:
        if self.started:
            self.pending.popleft()
        assert self.pending[0] == index
        self.started = True


class Pool:
    def __init__(self, session: pytest.Session, groups: Sequence[Indexes]) -> None:
        self._session = session
        self._groups = deque(groups)
        self._workers: list[Worker] = []
        self._forked = 0

    def run(self, count: int) -> None:
        for _ in range(min(count, len(self._groups))):
            self._fork()
        while self._workers:
            for connection in wait([worker.connection for worker in self._workers]):
                worker = next(worker for worker in self._workers if worker.connection is connection)
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    self._end(worker)
                else:
                    self._receive(worker, *message)

    def close(self) -> None:
        """Ends the workers after their current tests, if they run any."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()

    def _fork(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        folder = self._session.config._tmp_path_factory.mktemp(f"worker{self._forked}", numbered=False)
        others = [ours, *(worker.connection for worker in self._workers)]
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(self._session, theirs, folder, others)
        )
        process.start()
        theirs.close()
        self._workers.append(Worker(process, ours))
        self._forked += 1

    def _receive(self, worker: Worker, kind: str, value: Any) -> None:
        config = self._session.config
        match kind:
            case "idle":
                worker.give(self._groups.popleft() if self._groups else None)
            case "started":
                worker.start(value)
            case "finished":
                worker.pending.clear()
            case "warning":
                config.hook.pytest_warning_recorded.call_historic(kwargs=value)
            case _:
                report = config.hook.pytest_report_from_serializable(config=config, data=value)
                config.hook.pytest_runtest_logreport(report=report)
                if reason := self._session.shouldfail or self._session.shouldstop:
                    raise self._session.Interrupted(reason)

    def _end(self, worker: Worker) -> None:
        """If a test has ended the process of a worker, reports it and has another worker run the remaining tests."""
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)
        if not worker.pending:
            return
        if not worker.started:
            raise RuntimeError(f"a process that runs tests ended with code {worker.process.exitcode} before any test")
        item = self._session.items[worker.pending.popleft()]
        message = f"the process that ran this test ended with code {worker.process.exitcode}"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", message, "call")
        item.ihook.pytest_runtest_logreport(report=report)
        if worker.pending:
            self._groups.appendleft(tuple(worker.pending))
        if self._groups:
            self._fork()


# ---------------------------------------------------------------------------------------- in a process that runs tests


def _work(session: pytest.Session, connection: Connection, folder: Path, others: Sequence[Connection]) -> None:
    for other in others:  # else the end of a process would not be noticed while another one has its connection
        other.close()
    config = session.config
    config.workerinput = {}  # by this pytest's plugins, too, know a worker
    config._tmp_path_factory._basetemp = folder
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(Reporter(config, connection))
    config.pluginmanager.getplugin("capturemanager").start_global_capturing()
    with ExitStack() as stack:
        stack.callback(config.hook.pytest_unconfigure, config=config)
        stack.callback(config.hook.pytest_sessionfinish, session=session, exitstatus=pytest.ExitCode.OK)
        # the other end is closed when no more tests are to be run
        stack.enter_context(suppress(BrokenPipeError, ConnectionResetError, EOFError))
        for index, following in pairwise(chain(_indexes(connection), [None])):
            connection.send(("started", index))
            item, nextitem = session.items[index], None if following is None else session.items[following]
            item.ihook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            if session.shouldfail or session.shouldstop:
                break
        connection.send(("finished", None))


def _indexes(connection: Connection) -> Iterator[int]:
    """The tests to run. The next group is requested before the last test of one is run: which of its fixtures are to
    stay depends on the test after it."""
    while True:
        connection.send(("idle", None))
        group = connection.recv()
        if group is None:
            return
        yield from group


class Reporter:
    """Sends what is reported to the process that reports."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        config = self._config
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        self._connection.send(("report", data))

    def pytest_warning_recorded(self, warning_message: WarningMessage, when: str, nodeid: str, location: Any) -> None:
        if when == "runtest":  # the others are known there
            warning_message.source = None  # any object
            recorded = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
            self._connection.send(("warning", recorded))
