"""python -m oracle PYTHON [--count N] [--seed N] [--out FOLDER]: the whole comparison; `make oracle` calls it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from oracle.case import Case
from oracle.compare import compare
from oracle.engines import Engines, engines
from oracle.explained import Finding, reason
from oracle.graphs import cases
from oracle.shrink import shrink

Signature = tuple[str, str, str, str]


class Campaign:
    """Runs cases in both engines, and keeps the first of every kind of difference."""

    def __init__(self, both: Engines) -> None:
        self._both = both
        self._last: tuple[Mapping[str, Any], Mapping[str, Any]] = {}, {}  # what both put out of the last case
        self.nodes: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.explained: Counter[str] = Counter()
        self.unexplained: Counter[Signature] = Counter()
        self.first: dict[Signature, Case] = {}

    def finding(self, case: Case) -> Finding | None:
        """What differs, if anything does and it is not explained."""
        ours, theirs = self._both.run(case)
        self._last = ours, theirs
        if "defect" in theirs:
            raise RuntimeError(theirs["defect"])
        difference = compare(case, ours, theirs)
        return Finding(case, difference, ours, theirs) if difference is not None else None

    def take(self, case: Case) -> None:
        finding = self.finding(case)
        theirs = self._last[1]
        self.nodes.update(case.types[node["id"]] for node in theirs.get("nodes", ()))
        self.ends[theirs.get("status") or "refused"] += 1
        if finding is None:
            return
        if (why := reason(finding)) is not None:
            self.explained[why] += 1
            return
        self.unexplained[finding.difference.signature] += 1
        self.first.setdefault(finding.difference.signature, case)

    def save(self, folder: Path) -> None:
        """A folder for every kind of difference, each shrunk."""
        for number, (signature, case) in enumerate(self.first.items(), 1):

            def same(candidate: Case, signature: Signature = signature) -> bool:
                finding = self.finding(candidate)
                return finding is not None and finding.difference.signature == signature and reason(finding) is None

            small = shrink(case, same)
            ours, theirs = self._both.run(small)
            where = folder / f"{number:03}-{signature[0]}"
            small.write(where, {"headrace": ours, "dify": theirs})
            print(f"{self.unexplained[signature]:5} {where}\n      {compare(small, ours, theirs)}", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m oracle")
    parser.add_argument("python", type=Path, help="of the environment that graphon is in")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/oracle-cases"))
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with engines(options.python) as both:
        campaign = Campaign(both)

        @seed(options.seed)
        @settings(
            max_examples=options.count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases())
        def compared(case: Case) -> None:
            campaign.take(case)

        compared()
        total = sum(campaign.ends.values())
        print(f"{total} graphs in {time.monotonic() - began:.0f} s; runs ended as {dict(campaign.ends)}")
        print("nodes compared: " + ", ".join(f"{kind} {count}" for kind, count in campaign.nodes.most_common()))
        for why, count in campaign.explained.most_common():
            print(f"{count:5} explained: {why}")
        if not campaign.first:
            print("nothing unexplained")
            return 0
        print(f"{sum(campaign.unexplained.values())} graphs differ without an explanation:")
        campaign.save(options.out)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
