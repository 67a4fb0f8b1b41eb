"""Forms of the tests."""

from __future__ import annotations

from headrace.kernel.events import FormRequested
from headrace.values import Value

COMMENT: dict[str, Value] = {
    "type": "paragraph",
    "output_variable_name": "comment",
    "default": {"type": "constant", "value": '\n a"<x', "selector": []},
}
TONE: dict[str, Value] = {"type": "paragraph", "output_variable_name": "tone_of_voice", "default": None}
PRIORITY: dict[str, Value] = {
    "type": "select",
    "output_variable_name": "priority",
    "option_source": {"type": "constant", "value": ["low", "<high>"], "selector": []},
}
PAGE: dict[str, Value] = {
    "type": "file",
    "output_variable_name": "page",
    "allowed_file_types": ["image", "custom"],
    "allowed_file_extensions": [".md", "log"],
    "allowed_file_upload_methods": ["local_file", "remote_url"],
}
PICTURES: dict[str, Value] = {
    "type": "file-list",
    "output_variable_name": "pictures",
    "allowed_file_types": ["image"],
    "allowed_file_extensions": [],
    "allowed_file_upload_methods": ["local_file"],
    "number_limits": 5,
}
LINK: dict[str, Value] = {**PAGE, "output_variable_name": "link", "allowed_file_upload_methods": ["remote_url"]}
ACTIONS: list[dict[str, Value]] = [
    {"id": "approve", "title": "Approve", "button_style": "primary"},
    {"id": "change", "title": "Ask for <changes>", "button_style": "accent"},
    {"id": "later", "title": "Later", "button_style": "ghost"},
    {"id": "reject", "title": "Reject", "button_style": '"><script>'},
]
CONTENT = """# Draft

*Red tea* from Yilan. <script>alert(1)</script>

| what | price |
|------|------:|
| tea  |   280 |

Your comment: {{#$output.comment#}}

### Priority
{{#$output.priority#}} {{#$output.unknown#}} {{#$output.comment#}}
"""


def form(*inputs: dict[str, Value], content: str = CONTENT, title: str = "Review <b>the</b> draft") -> FormRequested:
    defaults: dict[str, Value] = {"tone_of_voice": "warm & kind"}
    return FormRequested("ask", "form-1", title, content, inputs or EVERY, ACTIONS, defaults, 3600)


EVERY = (COMMENT, PRIORITY, TONE, PAGE, PICTURES, LINK)
