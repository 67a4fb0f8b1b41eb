"""Where users' code runs: `open_sandbox` gives what `resources.Sandbox` promises."""

from __future__ import annotations

from headrace.adapters.sandbox.egress_proxy import EgressProxy
from headrace.adapters.sandbox.local import LocalSandbox
from headrace.adapters.sandbox.packages import Packages
from headrace.adapters.sandbox.remote import DEFAULT_KEY, RemoteSandbox

__all__ = ["EgressProxy", "LocalSandbox", "Packages", "RemoteSandbox", "open_sandbox"]


def open_sandbox(url: str | None = None, key: str | None = None) -> LocalSandbox | RemoteSandbox:
    """The dify-sandbox service at `url`, if one is given, else the sandbox of this machine. Starts nothing yet."""
    return RemoteSandbox(url, key or DEFAULT_KEY) if url else LocalSandbox()
