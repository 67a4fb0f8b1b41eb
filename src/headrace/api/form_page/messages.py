"""The words of the form page, in the languages of the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ENGLISH: Final = "en"
TRADITIONAL: Final = "zh-Hant"
SIMPLIFIED: Final = "zh-Hans"

_TRADITIONAL_REGIONS = frozenset({"hant", "tw", "hk", "mo"})

MESSAGES: Mapping[str, Mapping[str, str]] = {
    ENGLISH: {
        "due": "Please answer by",
        "choose": "Choose one",
        "required": "Please fill in this field.",
        "again": "Please choose the files again.",
        "problem": "Your answer was not sent",
        "files": "You can choose up to {} files.",
        "url": "A link that begins with https://",
        "thanks": "Thank you",
        "sent": "Your answer has been sent. You can close this page.",
        "over": "This form is closed",
        "submitted": "It has been answered already.",
        "timeout": "The time to answer it is over.",
        "expired": "The time to answer it is over.",
        "unknown": "There is no such form",
        "check": "Please check that the link is complete.",
        "busy": "Too many requests",
        "wait": "Please try again in a minute.",
    },
    TRADITIONAL: {
        "due": "請於此時間前回覆：",
        "choose": "請選擇",
        "required": "請填寫此欄位。",
        "again": "請重新選擇檔案。",
        "problem": "您的回覆尚未送出",
        "files": "最多可選擇 {} 個檔案。",
        "url": "以 https:// 開頭的連結",
        "thanks": "謝謝您",
        "sent": "您的回覆已送出，可以關閉此頁面。",
        "over": "此表單已關閉",
        "submitted": "此表單已有人回覆。",
        "timeout": "回覆期限已過。",
        "expired": "回覆期限已過。",
        "unknown": "找不到此表單",
        "check": "請確認連結是否完整。",
        "busy": "請求過於頻繁",
        "wait": "請一分鐘後再試。",
    },
    SIMPLIFIED: {
        "due": "请于此时间前回复：",
        "choose": "请选择",
        "required": "请填写此字段。",
        "again": "请重新选择文件。",
        "problem": "您的回复尚未提交",
        "files": "最多可选择 {} 个文件。",
        "url": "以 https:// 开头的链接",
        "thanks": "谢谢您",
        "sent": "您的回复已提交，可以关闭此页面。",
        "over": "此表单已关闭",
        "submitted": "此表单已有人回复。",
        "timeout": "回复期限已过。",
        "expired": "回复期限已过。",
        "unknown": "找不到此表单",
        "check": "请确认链接是否完整。",
        "busy": "请求过于频繁",
        "wait": "请一分钟后再试。",
    },
}


def language_of(header: str) -> str:
    """The best of these languages for an Accept-Language header."""
    choices = sorted(map(_weighed, header[:1000].split(",")), key=lambda choice: -choice[0])
    for weight, tag in choices:
        first, *rest = tag.split("-")
        if weight > 0 and first == "en":
            return ENGLISH
        if weight > 0 and first == "zh":
            return TRADITIONAL if _TRADITIONAL_REGIONS.intersection(rest) and "hans" not in rest else SIMPLIFIED
    return ENGLISH


def _weighed(choice: str) -> tuple[float, str]:
    tag, _, quality = choice.strip().lower().partition(";")
    try:
        return float(quality.strip().removeprefix("q=") or 1), tag.strip()
    except ValueError:
        return 0.0, tag.strip()
