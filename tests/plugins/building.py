"""A plugin's files, its folder, and its signed package."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

MANIFEST: Mapping[str, Any] = {
    "version": "0.1.2",
    "type": "plugin",
    "author": "acme",
    "name": "weather",
    "label": {"en_US": "Weather", "zh_Hans": "天气"},
    "description": {"en_US": "The weather of today"},
    "icon": "icon.svg",
    "resource": {
        "memory": 1048576,
        "permission": {
            "tool": {"enabled": False},
            "model": {"enabled": True, "llm": True, "rerank": False},
            "storage": {"enabled": True, "size": 4096},
        },
    },
    "plugins": {"tools": ["provider/weather.yaml"]},
    "meta": {
        "version": "0.0.1",
        "arch": ["amd64"],
        "runner": {"language": "python", "version": "3.12", "entrypoint": "main"},
        "minimum_dify_version": "1.1.0",
    },
}
PROVIDER: Mapping[str, Any] = {
    "identity": {"author": "acme", "name": "weather", "label": {"en_US": "Weather"}, "description": "Weather"},
    "credentials_for_provider": {
        "weather_api_key": {
            "type": "secret-input",
            "required": True,
            "label": {"en_US": "Key"},
            "url": "https://x.test",
        },
        "units": {
            "type": "select",
            "default": "metric",
            "options": [{"value": "metric", "label": "Metric"}, {"value": "imperial", "label": "Imperial"}],
        },
    },
    "tools": ["tools/today.yaml"],
    "extra": {"python": {"source": "provider/weather.py"}},
}
TOOL: Mapping[str, Any] = {
    "identity": {"author": "acme", "name": "today", "label": {"en_US": "Today"}},
    "description": {"human": {"en_US": "For people"}, "llm": "For the model"},
    "parameters": [
        {"name": "city", "type": "string", "required": True, "form": "llm", "llm_description": "A city"},
        {"name": "day", "type": "date", "form": "llm", "label": {"en_US": "Day"}},
        {"name": "days", "type": "select", "form": "form", "default": 1, "options": [{"value": 1}, {"value": 7}]},
        {"name": "odd", "type": "array[dates]", "form": "schema"},
    ],
    "output_schema": {"type": "object", "properties": {"degrees": {"type": "number"}}},
    "extra": {"python": {"source": "tools/today.py"}},
}


def files(manifest: Mapping[str, Any] = {}, **more: Any) -> dict[str, bytes]:
    """The files of the plugin acme/weather. `manifest` has other values of the manifest; `more` other files by their
    names, as YAML, and None for one that is not there."""
    content: dict[str, Any] = {
        "manifest.yaml": {**MANIFEST, **(manifest or {})},
        "provider/weather.yaml": PROVIDER,
        "provider/weather.py": b"",
        "tools/today.yaml": TOOL,
        "tools/today.py": b"class Today: ...\n",
        "main.py": b"print('{}')\n",
        "requirements.txt": b"",
        "icon.svg": b"<svg/>",
        **more,
    }
    return {
        name: item if isinstance(item, bytes) else yaml.safe_dump(item, allow_unicode=True, sort_keys=False).encode()
        for name, item in content.items()
        if item is not None
    }


def write(folder: Path, content: Mapping[str, bytes]) -> Path:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def package(path: Path, content: Mapping[str, bytes], key: rsa.RSAPrivateKey | None = None) -> Path:
    """A package, signed as Dify signs them if there is a key."""
    digests = b"".join(hashlib.sha256(data).digest() for data in content.values())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        if key is not None:
            signature = key.sign(digests + b"1700000000", padding.PKCS1v15(), hashes.SHA256())
            comment = {"signature": base64.b64encode(signature).decode(), "time": 1700000000}
            archive.comment = json.dumps(comment).encode()
    return path


def checksum(content: Mapping[str, bytes]) -> str:
    """The checksum that Dify computes."""
    pairs = [
        hashlib.sha256(name.encode()).digest() + hashlib.sha256(content[name]).digest() for name in sorted(content)
    ]
    return hashlib.sha256(b"".join(pairs)).hexdigest()
