"""HTTPS, and callers that show a certificate."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.server.tls import Tls
from tests.cli.conftest import Invoke
from tests.cli.flows import Server, environ, field, flow
from tests.deploy.worlds import Authority

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """Its key is encrypted, and callers show certificates."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = authority.issue("server", password="hush")
    started = Server(
        flow(folder / "echo.yml", variables=[field("query")]),
        cwd=folder,
        HEADRACE_TLS_CERTIFICATE=str(certificate),
        HEADRACE_TLS_KEY=str(key),
        HEADRACE_TLS_KEY_PASSWORD="hush",
        HEADRACE_TLS_CLIENT_CA=str(authority.file),
    )
    yield started
    started.stop()


def trusting(authority: Authority, identity: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if identity:
        context.load_cert_chain(*identity)
    return context


def get(url: str, context: ssl.SSLContext) -> tuple[int, Any, Any]:
    with urllib.request.urlopen(url, timeout=60, context=context) as answer:
        return answer.status, json.load(answer), answer.headers


def test_a_caller_with_a_certificate(server: Server, authority: Authority) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    status, received, headers = get(f"{server.url}/readyz", trusting(authority, authority.issue("caller")))
    assert (status, received) == (200, {"status": "ready"})
    assert headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_caller_without_one_or_with_somebody_elses(server: Server, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("caller")
    for identity in (None, stranger):
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            get(f"{server.url}/readyz", trusting(authority, identity))


def test_old_tls_is_refused(server: Server, authority: Authority) -> None:
    context = trusting(authority, authority.issue("caller"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((urllib.error.URLError, ssl.SSLError)):
        get(f"{server.url}/readyz", context)


def test_a_certificate_may_be_optional(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    (tmp_path / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    server = Server(
        cwd=tmp_path,
        HEADRACE_TLS_CERTIFICATE=str(tmp_path / "both.pem"),
        HEADRACE_TLS_CLIENT_CA=str(authority.file),
        HEADRACE_TLS_CLIENT_REQUIRED="false",
    )
    try:
        assert get(f"{server.url}/readyz", trusting(authority))[0] == 200
        assert get(f"{server.url}/readyz", trusting(authority, authority.issue("caller")))[0] == 200
        stranger = Authority(tmp_path, "stranger").issue("caller")
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            get(f"{server.url}/readyz", trusting(authority, stranger))
    finally:
        server.stop()


@pytest.mark.parametrize(
    "wrong", ["gone", "folder", "no pem", "other key", "password", "no certificate", "ca", "key gone"]
)
def test_wrong_files_are_told_in_one_line(tmp_path: Path, invoke: Invoke, authority: Authority, wrong: str) -> None:
    certificate, key = authority.issue("one")
    words = tmp_path / "words.pem"
    words.write_text("just words")
    settings, fields = {
        "gone": ({"CERTIFICATE": tmp_path / "gone.pem"}, "cannot be read: No such file or directory"),
        "folder": ({"CERTIFICATE": tmp_path}, "cannot be read: Is a directory"),
        "no pem": ({"CERTIFICATE": words}, "not a PEM certificate and key"),
        "other key": (
            {"CERTIFICATE": certificate, "KEY": authority.issue("other")[1]},
            "is not the key of the certificate in",
        ),
        "password": (
            {"CERTIFICATE": certificate, "KEY": authority.issue("locked", password="hush")[1]},
            "has a password, and HEADRACE_TLS_KEY_PASSWORD is not the right one",
        ),
        "no certificate": ({"KEY": key}, "HEADRACE_TLS_KEY is set, and HEADRACE_TLS_CERTIFICATE is not"),
        "ca": ({"CERTIFICATE": certificate, "KEY": key, "CLIENT_CA": words}, "has no PEM certificate"),
        "key gone": ({"CERTIFICATE": certificate, "KEY": tmp_path / "gone.key"}, "gone.key cannot be read"),
    }[wrong]
    done = invoke("serve", "--port", "0", **{f"HEADRACE_TLS_{name}": str(value) for name, value in settings.items()})
    assert done.exit_code == 1
    assert fields in done.stderr
    assert done.stderr.startswith("Error: HEADRACE_TLS_")
    assert len(done.stderr.splitlines()) == 1


def test_a_renewed_certificate_is_taken_up(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("first", file="server")
    tls = Tls(certificate, key)
    first = common_name(tls.context, authority)
    tls.reload()
    assert common_name(tls.context, authority) == first

    _, other = authority.issue("second", file="other")
    _replace(key, other.read_bytes())  # half of it is there: the old one stays
    tls.reload()
    assert common_name(tls.context, authority) == first

    authority.issue("second", file="server")
    _replace(certificate, certificate.read_bytes())
    tls.reload()
    assert common_name(tls.context, authority) == "second"


def _replace(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    later = time.time_ns() + 10**9
    os.utime(file, ns=(later, later))


def common_name(context: ssl.SSLContext, authority: Authority) -> str:
    """The name in the certificate that a server with this context shows."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting(authority).wrap_bio(to_client, to_server, server_hostname="localhost")
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    certificate = client.getpeercert()
    assert certificate
    return dict(item[0] for item in certificate["subject"])["commonName"]


@pytest.mark.parametrize("secure", [False, True])
def test_the_containers_health_check(tmp_path: Path, authority: Authority, secure: bool) -> None:
    certificate, key = authority.issue("server")
    files = {"HEADRACE_TLS_CERTIFICATE": str(certificate), "HEADRACE_TLS_KEY": str(key)} if secure else {}
    server = Server(cwd=tmp_path, **files)
    port = server.url.rpartition(":")[2]
    check = [sys.executable, "-I", str(ROOT / "deploy" / "healthcheck.py")]
    received = environ(HEADRACE_PORT=port, HEADRACE_HOST="0.0.0.0", **files)
    assert subprocess.run(check, env=received, check=False).returncode == 0
    server.stop()
    after = subprocess.run(check, env=received, check=False, capture_output=True, text=True)
    assert (after.returncode, "no response from 127.0.0.1" in after.stderr) == (1, True)


def test_the_health_check_where_callers_show_certificates(server: Server, authority: Authority) -> None:
    received = environ(
        HEADRACE_PORT=server.url.rpartition(":")[2],
        HEADRACE_TLS_CERTIFICATE="set",
        HEADRACE_TLS_CLIENT_CA=str(authority.file),
    )
    check = [sys.executable, "-I", str(ROOT / "deploy" / "healthcheck.py")]
    assert subprocess.run(check, env=received, check=False).returncode == 0
