"""Requests to webhooks: which are accepted, and the run that each of them starts.

Nothing is stored for a request that is refused, and it does not count against the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

from headrace.errors import NotFound
from headrace.frozen import frozen
from headrace.nodes.trigger_webhook import TriggerWebhook, WebhookRequest
from headrace.ports import IdempotencyStore
from headrace.ports.services import Files
from headrace.triggers.deliveries import Deliveries
from headrace.triggers.served import ServedTrigger, TriggerService
from headrace.triggers.signatures import PREFIX, WebhookSecret, delivery_of, event_of, variable_of
from headrace.values import Value


@frozen
class Upload:
    """A file of a form."""

    filename: str
    content_type: str
    data: bytes


@frozen
class WebhookCall:
    """A request. The names of `headers` are in lower case; `form` has the fields and files of a form."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    form: tuple[Mapping[str, str], Mapping[str, Upload]] | None = None
    trace: str | None = None


@frozen
class Webhook:
    """A webhook, and the secret that its sender signs with, if it does."""

    trigger: ServedTrigger
    secret: WebhookSecret | None

    @property
    def node(self) -> TriggerWebhook:
        return cast("TriggerWebhook", self.trigger.trigger)


class Webhooks:
    """Receives requests. `deliveries` has those of the last day, and `secrets` are by `variable_of` of the node."""

    def __init__(
        self,
        triggers: TriggerService,
        deliveries: IdempotencyStore,
        files: Files,
        secrets: Mapping[str, WebhookSecret],
    ) -> None:
        self.triggers = triggers
        self.secrets = secrets
        self._deliveries = Deliveries(deliveries, triggers.clock)
        self._files = files

    def secret_of(self, trigger: ServedTrigger) -> WebhookSecret | None:
        return self.secrets.get(variable_of(trigger.node))

    async def unused_secrets(self) -> list[str]:
        """The variables of secrets that no webhook has: one whose node's id is mistyped would verify nothing."""
        if not self.secrets:
            return []
        names_in_use = {
            variable_of(trigger.node) for trigger in await self.triggers.triggers() if trigger.trigger.kind == "webhook"
        }
        return sorted(PREFIX + name for name in self.secrets if name not in names_in_use)

    async def find(self, webhook: str) -> Webhook:
        """The webhook with the id of a URL. NotFound if there is none, or it is paused."""
        trigger = await self.triggers.find_webhook(webhook)
        if trigger is None or not isinstance(trigger.trigger, TriggerWebhook):
            raise NotFound(f"Webhook not found: {webhook[:50]}")
        if await self.triggers.is_paused(trigger):
            raise NotFound(f"Webhook trigger is disabled for webhook {webhook[:50]}")
        return Webhook(trigger, self.secret_of(trigger))

    def check_head(self, webhook: Webhook, method: str, headers: Mapping[str, str]) -> None:
        """Checks what needs no body. BadWebhook, BadSignature."""
        webhook.node.check_head(method, headers.get("content-type"))
        if webhook.secret is not None:
            webhook.secret.check_headers(headers)

    def verify(self, webhook: Webhook, headers: Mapping[str, str], body: bytes) -> None:
        """BadSignature if the webhook's sender has not signed this."""
        if webhook.secret is not None:
            webhook.secret.verify(headers, body, self.triggers.clock())

    async def receive(self, webhook: Webhook, call: WebhookCall) -> tuple[int, Value]:
        """Starts a run for a request that is verified; returns the status and the body of the response once the run is
        durable. BadWebhook for a request that is not as declared, and whatever refuses a run."""
        if (challenge := _challenge(webhook, call)) is not None:
            return 200, {"challenge": challenge}
        inputs = webhook.node.accept(_request(webhook, call))
        event: Mapping[str, Value] = inputs["webhook_body"] if call.form is None else {}
        await self.triggers.count_request(webhook.trigger)
        delivery = delivery_of(call.headers, call.body, event)
        await self._deliveries.once(webhook.trigger, delivery, partial(self._start, webhook, call, inputs))
        return webhook.node.answer()

    async def _start(self, webhook: Webhook, call: WebhookCall, inputs: Mapping[str, Value], run: str | None) -> None:
        data: dict[str, Value] = inputs["webhook_data"]
        for name, upload in data["files"].items():
            data["files"][name] = await self._save(webhook, upload)
        body: dict[str, Value] = data["body"]
        if isinstance(content := body.get("raw"), Upload):
            body["raw"] = await self._save(webhook, content)
        await self.triggers.fire(webhook.trigger, inputs, run, trace=call.trace)

    async def _save(self, webhook: Webhook, upload: Upload) -> Value:
        return await self._files.save(
            upload.data, filename=upload.filename, mime_type=upload.content_type, app=webhook.trigger.app.id
        )


def _challenge(webhook: Webhook, call: WebhookCall) -> str | None:
    """What Slack sends to verify a URL, which has none of the fields that its events have; None for another request."""
    if webhook.secret is None or webhook.secret.sender != "slack":
        return None
    event = event_of(call.body)
    challenge = event.get("challenge") if event.get("type") == "url_verification" else None
    return challenge if isinstance(challenge, str) else None


def _request(webhook: Webhook, call: WebhookCall) -> WebhookRequest:
    headers = {name.title(): value for name, value in call.headers.items()}
    if call.form is not None:
        return WebhookRequest(call.method, headers, call.query, *call.form)
    if webhook.node.config.content_type == "application/octet-stream":
        content = Upload("", "application/octet-stream", call.body) if call.body else None
        return WebhookRequest(call.method, headers, call.query, content)
    return WebhookRequest(call.method, headers, call.query, call.body)
