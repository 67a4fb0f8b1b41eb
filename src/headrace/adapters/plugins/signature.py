"""Who signed a package: RSA (PKCS#1 v1.5) over the SHA-256 of its files and the time, in the archive's comment."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headrace.adapters.plugins.package import Package
from headrace.errors import HeadraceError
from headrace.frozen import frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

VERIFICATION = ".verification.dify.json"
OFFICIAL = "Dify"
_OFFICIAL_KEY = b"""\
-----BEGIN RSA PUBLIC KEY-----
MIICCgKCAgEAwUY1cndCmqclHHlCn/PVB011n0m+vmXT2M/QWbViM/2oqO2S5lXl
VYwZjbN+r3xjUxnzCK6YC7fCI0CXJ69RPTpfRc9meV0TPb50g01kJI6HWL+SziZs
i+Mmul5ji7W4ebpOUNUPuBgFFfzrOv4BSO6tWVfpiqFTdfF3o2XT3FUja2rMCSQO
dsGvuhX5/YYAnOH4suxGo+nWda/QC+ohM4z8yLuM6fo7QPmkjTXN+jr7+RZ6JA7g
6XT7TdMK8oJcqMm15E0pRmgfNNLvqSeVcVM5OgmteTpSn7ekSdCMOpai3Cnc4zOa
PWSViiHTDu9AIoDbSBRQbvOaQ339eXOlHnomvg6WK6hw3hYoE+ASkv5qK9BwuWqn
xdUQ99qJ04eNTGjqCo65P9DKzpDb5BT5cxg40Utue0MbuN6pLPwhqkvnVmExuykw
aLQmTwnLODOD4gc5UU1dUeSUOxQeSoL8zSqL809ZV89B31jYOSFqcKEbyhoKaen3
dQSUFxEIca7Juj4E4tC+V1RsU2GSaVRCKEtJ4RBnDkQvB4aRBL+zpc26aIBKb3G3
0a9BWRvXRy+gr/qx8fDJgOuF23j1WXEDVsNtK6vpHGQkDUmsBsE2U+Sag9l2Vnq1
hrqLbjz2PPOHsBkg09IlM6SNr2NaEWvVJnC/szW8EQ51QBz8XJOnEmUCAwEAAQ==
-----END RSA PUBLIC KEY-----
"""


@frozen
class Signature:
    """`signer` is the name of the key that signed a package; "" if none of the known ones did, and then `problem` says
    why the package is not trusted."""

    signer: str = ""
    problem: str = ""


def verify(package: Package, folder: Path, keys: Sequence[Path]) -> Signature:
    """Verifies the signature of a package that is unpacked in a folder. Besides Dify's own key, those in PEM files
    count. HeadraceError if such a file is not valid, or the library is missing."""
    public_keys = _public_keys(keys)
    if not package.comment:
        return Signature(problem="is not signed")
    try:
        comment: Any = json.loads(package.comment)
        signature = base64.b64decode(comment["signature"], validate=True)
        time = comment["time"]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return Signature(problem="has a malformed signature")
    digest = hashlib.sha256(b"".join(package.digests) + str(time).encode()).digest()
    for name, key in public_keys.items():
        if _is_signed(key, signature, digest):
            return Signature(f"{name} ({_category(folder)})" if name == OFFICIAL else name)
    return Signature(problem="was changed after it was signed, or signed with an unknown key")


def _category(folder: Path) -> str:
    """For whom Dify signed: langgenius, partner or community. Old packages do not say it: they are Dify's own."""
    try:
        content: object = json.loads((folder / VERIFICATION).read_bytes())
    except FileNotFoundError:
        return "langgenius"
    except (ValueError, RecursionError):
        return "unknown"
    category = cast("Mapping[str, object]", content).get("authorized_category") if isinstance(content, dict) else None
    return category if isinstance(category, str) and category else "unknown"


def _public_keys(paths: Sequence[Path]) -> dict[str, RSAPublicKey]:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        message = 'Signatures of plugins need a further package: pip install "headrace[plugins]".'
        raise HeadraceError(message) from error
    keys: dict[str, RSAPublicKey] = {}
    for name, path in [(OFFICIAL, None), *((path.name, path) for path in paths)]:
        try:
            key = load_pem_public_key(_OFFICIAL_KEY if path is None else path.read_bytes())
        except OSError as error:
            raise HeadraceError(f"HEADRACE_PLUGIN_KEYS: {path} cannot be read: {error.strerror}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise HeadraceError(f"HEADRACE_PLUGIN_KEYS: {path} is not a public key in PEM") from error
        if not isinstance(key, RSAPublicKey):
            raise HeadraceError(f"HEADRACE_PLUGIN_KEYS: {path} is not an RSA key")
        keys[name] = key
    return keys


def _is_signed(key: RSAPublicKey, signature: bytes, digest: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
    except InvalidSignature:
        return False
    return True
