"""A server of S3 in this process, one for each process that runs tests and needs one. It checks no credentials."""

from __future__ import annotations

import http.client
import itertools
import logging
from collections.abc import Generator

import pytest

_NUMBERS = itertools.count(1)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests", "AWS_REGION": "us-east-1"}


class S3Server:
    """It can be stopped and started again where it was; what is stored stays."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    @property
    def environ(self) -> dict[str, str]:
        """The variables that a client needs."""
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", **CREDENTIALS}

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def new_bucket(self) -> str:
        """The URL of an empty bucket."""
        name = f"files-{next(_NUMBERS)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("PUT", f"/{name}")
            assert connection.getresponse().status == 200
        finally:
            connection.close()
        return f"s3://{name}/installation"


@pytest.fixture(scope="session")
def s3_server() -> Generator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the variables of its client set in this process."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    return s3_server
