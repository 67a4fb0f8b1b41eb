"""answer: text and files."""

from __future__ import annotations

from headrace.nodes.answer import Answer, AnswerConfig
from headrace.values import File
from tests.nodes.plain import run

PICTURE = File("image", "remote_url", "a.png", url="http://h/a.png")
PAPER = File("document", "remote_url", "a.pdf", url="http://h/a.pdf")
SCOPES = {"n": {"text": "hi", "list": [1, "b"], "object": {"a": 1}, "file": PICTURE, "files": [PAPER, PICTURE]}}


async def test_what_it_says():
    result = await run(Answer, {"answer": "A {{#n.text#}}!\n{{#n.list#}}\n{{#n.object#}} {{#n.gone#}} {{x}}"}, SCOPES)
    assert result.outputs["answer"] == 'A hi!\n- 1\n- b\n{\n  "a": 1\n} n.gone {{x}}'
    assert result.outputs["files"] == []


async def test_files_are_shown_and_listed():
    result = await run(Answer, {"answer": "{{#n.file#}} and {{#n.files#}}"}, SCOPES)
    picture, paper = "![a.png](http://h/a.png)", "[a.pdf](http://h/a.pdf)"
    assert result.outputs["answer"] == f"{picture} and {paper}\n{picture}"
    assert result.outputs["files"] == [PICTURE, PAPER, PICTURE]


def test_the_pieces_that_a_stream_tells():
    template = Answer(AnswerConfig(answer="A {{#n.text#}}{{#sys.query#}}.")).response_template()
    assert template == ["A ", ("n", "text"), ("sys", "query"), "."]
    assert Answer(AnswerConfig(answer="")).response_template() == []
