"""A real OpenTelemetry collector (rotel), in a process of its own, which passes on what it has understood."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.background import child

PATIENCE = 60.0  # seconds


@contextmanager
def collector(passes_on_to: str) -> Generator[str]:
    """Its URL. It takes OTLP over HTTP, and sends it on in the same way."""
    spec = importlib.util.find_spec("rotel")
    if spec is None or spec.origin is None:
        pytest.skip("NOT TESTED: with an OpenTelemetry collector, because rotel has no wheel for this machine")
    program = Path(spec.origin).with_name("rotel-agent")
    http, grpc = _free(), _free()
    command = [program, "start", "--exporter", "otlp", "--otlp-exporter-endpoint", passes_on_to, "--disable-batching"]
    command += ["--otlp-exporter-protocol", "http", "--otlp-http-endpoint", http, "--otlp-grpc-endpoint", grpc]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "ROTEL_"))}
    with child(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            _until_listening(process, http)
            yield f"http://{http}"
        finally:
            process.terminate()


def _free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def _until_listening(process: subprocess.Popen[str], address: str) -> None:
    host, _, port = address.partition(":")
    until = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, process.communicate()[0]
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until, "the collector does not listen"
            time.sleep(0.02)
