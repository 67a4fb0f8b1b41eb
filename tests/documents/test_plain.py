"""Text formats: what they become, in whatever encoding they come."""

from __future__ import annotations

import json

import pytest

from tests.documents.making import book, failure, refusal, text

CHINESE = "工作流读取文档,并把内容交给模型。这是一个简单的例子"
TAIWANESE = "這是一個簡單的例子,文件的內容會交給模型處理。"
JAPANESE = "これは文書です。日本語のテキストを読みます。"


@pytest.mark.parametrize(
    "extension", [".txt", ".md", ".MDX", ".html", ".htm", ".xml", ".py", ".log", ".srt", "txt", ".jsonl"]
)
async def test_text_is_reported_as_it_is(extension: str) -> None:
    source = '<p class="a">Grüße &amp; 你好</p>\r\n# two'
    assert await text(source.encode(), extension) == source


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        (CHINESE, "utf-8"),
        (CHINESE, "utf-8-sig"),
        (CHINESE, "utf-16"),
        (CHINESE, "utf-32"),
        (CHINESE, "gb18030"),
        (CHINESE, "gbk"),
        (TAIWANESE, "big5"),
        (JAPANESE, "shift_jis"),
        ("plain words", "utf-16-le"),
        ("plain words", "utf-16-be"),
        ("Crème brûlée für Zoë, naïve café", "latin-1"),
        ("“quoted” – 5 €", "cp1252"),
        ("", "utf-8"),
    ],
)
async def test_the_encoding_is_found(words: str, encoding: str) -> None:
    assert await text(words.encode(encoding), ".txt") == words


async def test_text_cut_off_in_mid_character_keeps_the_rest() -> None:
    assert await text(CHINESE.encode()[:-1], ".txt") == CHINESE[:-1]


async def test_bytes_that_are_no_text_are_no_crash() -> None:
    assert await text(bytes(range(256)), ".txt")


async def test_the_mime_type_tells_where_the_extension_does_not() -> None:
    assert await text(b'{"a":1}', "", "application/json; charset=utf-8") == '{\n  "a": 1\n}'
    assert await text(b'{"a":1}', ".bin", "application/json") == '{\n  "a": 1\n}'
    assert await text(b'{"a":1}', ".txt", "application/json") == '{"a":1}'


@pytest.mark.parametrize(
    ("extension", "mime_type", "message"),
    [
        (".exe", None, "Unsupported Extension Type: .exe"),
        ("", "image/png", "Unsupported MIME type: image/png"),
        ("", None, "Unable to determine file type: MIME type or file extension is missing"),
        (".doc", None, "Documents of type .doc are not read: save it as .docx"),
        (".xls", "application/vnd.ms-excel", "Documents of type .xls are not read: save it as .xlsx"),
        (".msg", None, "Documents of type .msg are not read: save it as .eml"),
        ("", "application/vnd.ms-powerpoint", "Documents of type application/vnd.ms-powerpoint are not read"),
    ],
)
async def test_what_is_not_read_is_said(extension: str, mime_type: str | None, message: str) -> None:
    error = await failure(b"x", extension, mime_type)
    assert str(error).startswith(message)
    assert error.kind == "UnsupportedFileTypeError"


async def test_json_is_indented() -> None:
    assert (
        await text('{"b":[1,"é"],"a":null}'.encode(), ".json") == '{\n  "b": [\n    1,\n    "é"\n  ],\n  "a": null\n}'
    )


async def test_yaml_is_written_anew() -> None:
    source = "b: 1 # why\na: [x, 名]\n---\n- 2\n"
    assert await text(source.encode(), ".yml") == "b: 1\na:\n- x\n- 名\n---\n- 2\n"


async def test_csv_is_a_table() -> None:
    source = 'name,"no\nte"\r\nann,"a, b"\r\n'
    assert await text(source.encode(), ".csv") == "| name | no te |\n| ---- | ----- |\n| ann | a, b |\n"
    assert await text(b"", ".csv") == ""


async def test_properties_are_pairs() -> None:
    source = "# note\n a = 1=2\n\nurl: http://x\nbare\n"
    assert await text(source.encode(), ".properties") == "# note\na: 1=2\n\nurl: http://x\nbare: "


async def test_subtitles_are_kept_as_they_are() -> None:
    """As in Dify, which goes by the extension; by the MIME type alone they become a dialogue, see below."""
    source = "\ufeffWEBVTT\n\n00:00.000 --> 00:01.000\n<v Ann>Hello</v>\n"
    assert await text(source.encode(), ".vtt", "text/vtt") == source.lstrip("\ufeff")


async def test_vtt_tells_who_says_what() -> None:
    source = """\ufeffWEBVTT - a talk

NOTE nobody
reads this

STYLE
::cue { color: red }

1
00:00.000 --> 00:01.000 align:start
<v Ann>Hello</v>

00:01.000 --> 00:02.000
<v.loud Ann>again
and <i>again</i></v>

00:02.000 --> 00:03.000
<v Bob>Yes</v>

00:03.000 --> 00:04.000
(noise)"""
    assert await text(source.encode(), "", "text/vtt") == 'Ann "Hello again\nand again"\nBob "Yes"\n"(noise)"'


@pytest.mark.usefixtures("apart")
async def test_a_mail_is_its_text() -> None:
    source = (
        "Subject: hi\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n"
        "--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        "Gr=FC=DFe\r\nyours\r\n--b--\r\n"
    )
    assert await text(source.encode(), ".eml") == "Grüße\nyours"


async def test_a_mail_of_html_only_is_what_its_reader_sees() -> None:
    page = (
        "<html><head><style>p{}</style></head><body><script>if (a<b) x()</script><!-- no -->"
        '<p title="a > b">One &lt;two&gt;<br>three</p>\n<table><tr><td>a<td>b</table>5 < 6</body>'
    )
    source = f"Content-Type: text/html; charset=nonsense\r\n\r\n{page}"
    assert await text(source.encode(), ".eml") == "One <two>\nthree\na b\n5 < 6"
    assert await text(b"", ".eml") == ""


@pytest.mark.usefixtures("apart")
async def test_a_mail_of_parts_in_parts_without_end_is_given_up_on() -> None:
    nested = (
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\nContent-Type: multipart/mixed; boundary=a\n\n" * 9_000
    )
    assert "longer than 0 seconds" in await refusal(nested, ".eml", seconds=0)


@pytest.mark.usefixtures("apart")
async def test_a_book_is_its_chapters_in_reading_order() -> None:
    assert await text(book(), ".epub") == "First\nA & B\nSecond"


@pytest.mark.parametrize(
    ("extension", "data", "why"),
    [
        (".json", b'{"a":', "it is not valid JSON"),
        (".json", b"[" * 100_000, "it nests too deeply"),
        (".yaml", b"a: [1, 2", "it is not valid YAML"),
        (".yaml", b"a: !!python/object/apply:os.system [ls]", "it is not valid YAML"),
        (".yaml", b"[" * 50_000, "it nests too deeply"),
        (".csv", b'a,"' + b"x" * 200_000, "it is not valid CSV"),
    ],
)
async def test_damaged_text_is_refused_with_its_reason(extension: str, data: bytes, why: str) -> None:
    assert why in await refusal(data, extension)


async def test_what_says_that_it_is_webvtt_and_is_not() -> None:
    assert "it does not begin with WEBVTT" in await refusal(b"hello", "", "text/vtt")


@pytest.mark.usefixtures("apart")
async def test_indentation_does_not_blow_up() -> None:
    deep = json.loads("[" * 300 + "]" * 300)
    assert "longer than 100,000 characters" in await refusal(
        json.dumps([deep] * 10).encode(), ".json", characters=100_000
    )


async def test_merge_keys_of_yaml_do_not_multiply() -> None:
    levels = ["l0: &l0 {" + ", ".join(f"k{n}: {n}" for n in range(10)) + "}"]
    levels += [f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    assert "its merge keys add up to too much" in await refusal("\n".join(levels).encode(), ".yaml")


async def test_aliases_of_yaml_stay_aliases() -> None:
    levels = ["l0: &l0 [x]"] + [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert len(await text("\n".join(levels).encode(), ".yaml")) < 2000


@pytest.mark.usefixtures("apart")
async def test_hostile_markup_is_read_in_one_pass() -> None:
    for piece in ("<!--", "<a b='", '<a b="', "<a ", "<script>", "</", "<", "&", "<a b=", "<v "):
        await text(b"Content-Type: text/html\r\n\r\n" + piece.encode() * (200_000 // len(piece)), ".eml", seconds=20)
        await text(b"WEBVTT\n\n00:00 --> 00:01\n" + piece.encode() * (200_000 // len(piece)), ".vtt", seconds=20)
