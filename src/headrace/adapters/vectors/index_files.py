"""Vector indexes in files, so that they are not built again by each process.

A file of facts names the file of its index: one that was written halfway is never used.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from headrace.adapters.vectors.rescoring import Contents, Key

logger = logging.getLogger(__name__)

_UNUSED_DAYS = 30  # after which files are deleted


class IndexFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: Key, load_index: Callable[[str], object]) -> Contents | None:
        """What was saved last, after `load_index` has read the file of its index; None if that cannot be used."""
        facts = self._facts(key)
        try:
            saved_facts = orjson.loads(facts.read_bytes())
            load_index(str(self._folder / saved_facts["file"]))
            facts.touch()
            return Contents(
                np.array(saved_facts["owners"], np.int32),
                saved_facts["nodes"],
                saved_facts["documents"],
                saved_facts["version"],
            )
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read and is built again: %s", facts, error)
            return None

    def save(self, key: Key, contents: Contents, save_index: Callable[[str], object]) -> None:
        """Saves an index; a failure is logged, as it can be built again."""
        facts = self._facts(key)
        file = f"{facts.stem}-{uuid.uuid4().hex}.usearch"
        saved = {
            "file": file,
            "owners": contents.owners.tolist(),
            "nodes": contents.nodes,
            "documents": contents.documents,
            "version": contents.version,
        }
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_index(str(self._folder / file))
            facts_file = self._folder / f"{file}.json"
            facts_file.write_bytes(orjson.dumps(saved))
            facts_file.replace(facts)
            self._delete_unused(facts.stem, file)
        except (OSError, RuntimeError) as error:
            logger.warning("%s cannot be written: %s", facts, error)

    def _facts(self, key: Key) -> Path:
        dataset, model, dimension = key
        name = hashlib.sha256("\0".join([dataset, model, str(dimension)]).encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"

    def _delete_unused(self, stem: str, file: str) -> None:
        """Deletes the index that this one replaces, and what has not been used for long."""
        before = time.time() - _UNUSED_DAYS * 86_400
        for path in self._folder.iterdir():
            is_replaced = path.name.startswith(f"{stem}-") and path.name != file
            if is_replaced or (path.stat().st_mtime < before and not path.name.startswith(stem)):
                path.unlink(missing_ok=True)
