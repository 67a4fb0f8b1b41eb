"""Asks an app, through the SDK, and streams its answer."""

from collections.abc import Mapping

from dify_plugin import Endpoint
from werkzeug import Request, Response


class Ask(Endpoint):
    def _invoke(self, r: Request, values: Mapping, settings: Mapping) -> Response:
        events = self.session.app.chat.invoke(
            app_id=settings["app"]["app_id"],
            query=r.get_data(as_text=True),
            inputs={"q": r.args["q"]},
            response_mode="streaming",
        )

        def answers():
            for event in events:
                yield event["answer"]

        return Response(answers(), 202, {"X-Name": values["name"]}, content_type="text/plain")
