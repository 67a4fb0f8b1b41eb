"""Packages: what is unpacked, its checksum and its signature, and what is refused."""

from __future__ import annotations

import os
import re
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from headrace.adapters.plugins import package as packages
from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.package import unpack
from headrace.adapters.plugins.signature import VERIFICATION, verify
from headrace.errors import HeadraceError
from tests.plugins.building import checksum, files, package, write


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


def test_a_package(tmp_path: Path, into: Path):
    content = {**files(), "a/ünïcode 文件.txt": b"x" * 3_000_000}
    unpacked = unpack(package(tmp_path / "weather.difypkg", content), into)
    assert unpacked.id == PluginId("acme", "weather", "0.1.2", checksum(content))
    assert {name: (into / name).read_bytes() for name in content} == content


def test_a_folder_has_the_same_checksum_without_what_belongs_to_its_developer(tmp_path: Path, into: Path):
    own = {".env": b"KEY=1", ".venv/bin/python": b"", "tools/__pycache__/today.pyc": b"", ".git/HEAD": b""}
    folder = write(tmp_path / "source", {**files(), **own})
    assert unpack(folder, into).id.checksum == checksum(files())
    assert not any((into / name).exists() for name in own)


def archive(path: Path, *names: str, **modes: int) -> Path:
    with zipfile.ZipFile(path, "w") as bundle, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in files().items():
            bundle.writestr(name, content)
        for name in names:
            bundle.writestr(name, b"x")
        for name, mode in modes.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            bundle.writestr(entry, b"/etc/passwd")
    return path


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["/etc/passwd"], "a file with the name '/etc/passwd'"),
        (["../x"], "a file with the name '../x'"),
        (["a/../../x"], "a file with the name 'a/../../x'"),
        (["a//x"], "a file with the name 'a//x'"),
        (["./x"], "a file with the name './x'"),
        (["a\\..\\x"], r"a file with the name 'a\\..\\x'"),
        (["a\nb"], r"a file with the name 'a\nb'"),
        (["x" * 1025], "a file with a name of more than 1024 bytes"),
        (["main.py"], "the file 'main.py' twice"),
        (["MAIN.py"], "the file 'MAIN.py' twice"),
        (["é", "e\u0301"], "the file 'e\u0301' twice"),
        (["main.py/x"], "the file 'main.py/x' twice, or as a folder too"),
        (["TOOLS"], "the file 'TOOLS' twice, or as a folder too"),
    ],
)
def test_hostile_names(tmp_path: Path, into: Path, names: list[str], message: str):
    with pytest.raises(HeadraceError, match=re.escape(f"x.difypkg is not a valid package: it has {message}")):
        unpack(archive(tmp_path / "x.difypkg", *names), into)
    assert not (tmp_path / "x").exists()


def test_links_and_devices(tmp_path: Path, into: Path):
    for mode in (stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644):
        with pytest.raises(HeadraceError, match=r"it has a link or a device \('link'\)"):
            unpack(archive(tmp_path / "x.difypkg", link=mode), into)
        for file in sorted(into.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    folder = write(tmp_path / "source", files())
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(HeadraceError, match=r"it has a link or a device \('link'\)"):
        unpack(folder, into)


def test_a_bomb(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "MAX_UNPACKED", 1_000_000)
    bomb = package(tmp_path / "x.difypkg", {**files(), "zeros": bytes(100_000_000)})
    assert bomb.stat().st_size < 200_000
    with pytest.raises(HeadraceError, match="it is larger than 1000000 bytes when it is unpacked"):
        unpack(bomb, into)
    assert sum(file.stat().st_size for file in into.rglob("*")) < 2_000_000


def test_too_many_files_and_bytes(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch):
    file = archive(tmp_path / "x.difypkg")
    monkeypatch.setattr(packages, "MAX_FILES", 3)
    with pytest.raises(HeadraceError, match="it has more than 3 files"):
        unpack(file, into)
    monkeypatch.setattr(packages, "_MAX_DIRECTORY", 100)
    with pytest.raises(HeadraceError, match="it has more than 3 files"):
        unpack(file, into)
    monkeypatch.setattr(packages, "MAX_PACKED", 1000)
    with pytest.raises(HeadraceError, match="it is larger than 1000 bytes"):
        unpack(file, into)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    at = content.find(b"identity")
    content[at] ^= 1
    file.write_bytes(content)


def no_manifest(file: Path) -> None:
    package(file, {"main.py": b""})


def malformed_manifest(file: Path) -> None:
    package(file, {"manifest.yaml": b"a: ["})


def encrypted(file: Path) -> None:
    content = file.read_bytes()
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature) + offset
        content = content[:at] + b"\x01" + content[at + 1 :]
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "there is no such file"),
        (lambda file: file.write_bytes(b""), "File is not a zip file"),
        (lambda file: file.write_bytes(os.urandom(5000)), "File is not a zip file"),
        (cut_off, "File is not a zip file"),
        (damaged, "Bad CRC-32 for file"),
        (no_manifest, "it has no manifest.yaml"),
        (malformed_manifest, "is not valid YAML"),
        (encrypted, "is encrypted"),
    ],
)
def test_what_is_not_a_package(tmp_path: Path, into: Path, change: Callable[[Path], object], message: str):
    file = archive(tmp_path / "x.difypkg")
    change(file)
    with pytest.raises(HeadraceError, match=f"x.difypkg is not a valid package: .*{message}"):
        unpack(file, into)


# --------------------------------------------------------------------------------------------------------- signatures


def test_a_signature(tmp_path: Path, into: Path, key: rsa.RSAPrivateKey, public_key: Path):
    signed = unpack(package(tmp_path / "x.difypkg", files(), key), into)
    assert verify(signed, into, [public_key]).signer == "acme.pem"
    assert verify(signed, into, []).problem == "was changed after it was signed, or signed with an unknown key"


def test_a_package_that_was_changed(tmp_path: Path, into: Path, key: rsa.RSAPrivateKey, public_key: Path):
    file = package(tmp_path / "x.difypkg", files(), key)
    with zipfile.ZipFile(file) as archive:
        comment = archive.comment
    with zipfile.ZipFile(package(file, {**files(), "main.py": b"evil"}), "a") as archive:
        archive.comment = comment
    assert verify(unpack(file, into), into, [public_key]).problem.startswith("was changed after it was signed")


@pytest.mark.parametrize(
    "comment", [b"x", b"[]", b"{}", b'{"signature": 1, "time": 1}', b'{"signature": "?", "time": 1}', b"[" * 5000]
)
def test_malformed_signatures(tmp_path: Path, into: Path, comment: bytes):
    file = package(tmp_path / "x.difypkg", files())
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    assert verify(unpack(file, into), into, []).problem == "has a malformed signature"


def test_without_a_signature(tmp_path: Path, into: Path):
    assert verify(unpack(package(tmp_path / "x.difypkg", files()), into), into, []).problem == "is not signed"


def test_for_whom_dify_signed(
    tmp_path: Path, into: Path, key: rsa.RSAPrivateKey, public_key: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headrace.adapters.plugins.signature._OFFICIAL_KEY", public_key.read_bytes())
    content = {**files(), VERIFICATION: b'{"authorized_category": "community"}'}
    signed = unpack(package(tmp_path / "x.difypkg", content, key), into)
    assert verify(signed, into, []).signer == "Dify (community)"
    (into / VERIFICATION).unlink()
    assert verify(signed, into, []).signer == "Dify (langgenius)"


def test_keys_that_are_not_valid(tmp_path: Path, into: Path):
    unpacked = unpack(package(tmp_path / "x.difypkg", files()), into)
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    other = tmp_path / "ec.pem"
    other.write_bytes(curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "text.pem").write_text("key")
    for name, problem in (
        ("none.pem", "cannot be read: No such file or directory"),
        ("text.pem", "is not a public key in PEM"),
        ("ec.pem", "is not an RSA key"),
    ):
        with pytest.raises(HeadraceError, match=f"HEADRACE_PLUGIN_KEYS: .*{name} {problem}"):
            verify(unpacked, into, [tmp_path / name])
