"""A real OpenID Connect provider in a process of its own, and how a client gets a token from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

CLIENT = "flows"  # what its tokens are for
_BACK = "http://127.0.0.1/signed-in"


class Provider:
    """Knows `users`, by the claims of each; `url` is its issuer."""

    def __init__(self, users: Sequence[Mapping[str, Any]]) -> None:
        self._users = users

    def __enter__(self) -> Provider:
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", "0"]
        for user in self._users:
            command += ["--user-claims", json.dumps(user)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        lines: list[str] = []
        for line in self._process.stderr:
            lines.append(line)
            if address := re.search(r"running on (http://[\d.]+:\d+)", line):
                break
        else:
            raise AssertionError("the provider did not get ready:\n" + "".join(lines))
        self.url = address[1]
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(60)
        self._drain.join(5)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def token(self, user: str, client: str = CLIENT) -> str:
        """Signs a user in, by the authorization code flow: the id token that the client gets."""
        with httpx.Client(base_url=self.url) as http:
            query = {"client_id": client, "redirect_uri": _BACK, "response_type": "code", "scope": "openid"}
            answer = http.post("/oauth2/authorize", params=query, data={"sub": user})
            code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": _BACK}
            answer = http.post("/oauth2/token", data=form, auth=(client, "secret"))
            answer.raise_for_status()
            return answer.json()["id_token"]
