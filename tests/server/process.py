"""A `headrace serve` in a process of its own, as users run it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from urllib.parse import urlsplit

from tests import forking, logged


class Serve:
    """Serves files until the block is left (SIGTERM) or `kill` is called (SIGKILL).

    `url`, and `keys` and `apps` by the name of each file's folder or file.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        files: Sequence[pathlib.Path],
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._options = options
        self._files = files
        self._environ = {**os.environ, **(environ or {})}
        self.said: list[str] = []
        self._port = 0

    def __enter__(self) -> Serve:
        ready = self._folder / "ready.json"
        ready.unlink(missing_ok=True)
        options = [
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
            "--data",
            str(self._folder / "data"),
            "--ready-file",
            str(ready),
            *self._options,
        ]
        command = ["serve", *map(str, self._files), *options]
        self.process = forking.start(command, env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        for line in self.process.stderr:  # it says something once it is ready, and ends its output where it cannot be
            self.said.append(line)
            if ready.exists():
                break
        else:
            self.process.wait(20)
            self.process.stderr.close()
            raise AssertionError("headrace serve did not get ready:\n" + "".join(self.said))
        self._drain = threading.Thread(target=self._listen, daemon=True)
        self._drain.start()
        body = json.loads(ready.read_text())
        self.url: str = body["url"]
        self._port = urlsplit(self.url).port or 0  # a server that is started again is where it was
        self.apps = {self._name(app["file"]): app for app in body["apps"]}
        self.keys = {name: app["key"] for name, app in self.apps.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self._end()

    def kill(self) -> None:
        """Ends the process as a crash would."""
        self.process.kill()
        self._end()

    def _end(self) -> None:
        self.process.wait(60)
        self._drain.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()
        assert logged.revealing(self.said, logged.secrets_of(self._environ, self._files)) == []

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    @staticmethod
    def _name(file: str) -> str:
        path = pathlib.Path(file)
        return path.parent.name if path.stem == "dsl" else path.stem
