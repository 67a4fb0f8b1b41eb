"""What `lint` says about the e-mails of forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.nodes.human_input.config import HumanInputConfig
from headrace.nodes.human_input.node import HumanInput
from headrace.ports.mail import MailSetup
from headrace.settings import Settings
from tests.resources import only

READY = Settings(
    smtp_url="smtp://mail.example.com",
    smtp_from="h@example.com",
    public_url="https://h.example.com",
    members=["m1=a@x.y"],
).mail
MEMBER = {"type": "member", "user_id": "m1"}
STRANGER = {"type": "member", "reference_id": "m2"}
ADDRESS = {"type": "external", "email": "ann@example.com"}


def problems(mail: MailSetup, *recipients: Mapping[str, Any], enabled: bool = True, **more: bool) -> list[str]:
    config = {"subject": "", "body": "", "recipients": {"items": list(recipients), **more}}
    deliveries = [{"type": "webapp"}, {"type": "email", "enabled": enabled, "config": config}]
    node = HumanInput(HumanInputConfig.model_validate({"delivery_methods": deliveries}))
    return list(node.missing_requirements(only(mail=mail)))


def test_what_is_set_and_known_is_no_problem() -> None:
    assert problems(READY, MEMBER, ADDRESS) == []
    assert problems(Settings().mail, STRANGER, enabled=False, whole_workspace=True) == []


def test_settings_that_are_missing() -> None:
    (problem,) = problems(Settings(smtp_url="smtp://mail.example.com").mail, ADDRESS)
    assert problem == "To send e-mails, set HEADRACE_SMTP_FROM, HEADRACE_PUBLIC_URL."


@pytest.mark.parametrize("group", ["whole_workspace", "include_bound_group"])
def test_recipients_without_an_address(group: str) -> None:
    unknown, workspace = sorted(problems(READY, STRANGER, MEMBER, **{group: True}), reverse=True)
    assert unknown == "The address of a recipient is not known: set HEADRACE_MEMBERS=m2=ADDRESS."
    assert "whole workspace" in workspace
