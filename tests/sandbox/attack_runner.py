"""Runs programs in confined processes of the Python that runs this, and says what came of each.

    python -I attack_runner.py FOLDER [WALL ...]     FOLDER holds `headrace` and `jinja2`; the walls are left out:
                                                     `landlock`, `listener`

stdin: JSON, {name: [code, inputs]}. stdout: {name: ["answer" or "error", text]}.
"""

import asyncio
import json
import os
import sys

FOLDER, *LEFT_OUT = sys.argv[1:]
sys.path.insert(0, FOLDER)

from headrace.adapters.sandbox import child_process, workers
from headrace.adapters.sandbox.zygote_wire import Plan

WITHOUT = {
    "landlock": "import headrace.adapters.sandbox.landlock as landlock; landlock._CREATE = 9999",
    "listener": "import headrace.adapters.sandbox.seccomp as seccomp; seccomp._NEW_LISTENER = 1 << 20",
}


async def main() -> None:
    lines = [WITHOUT[wall] for wall in LEFT_OUT]
    boot = child_process.BOOT.strip().split("\n")
    child_process.BOOT = "\n".join([*boot[:2], *lines, *boot[2:]])

    async def plan() -> Plan:
        return Plan(memory=128 << 20, cpu_seconds=60)

    pool = workers.Workers(plan)

    async def run(code: str, inputs: dict[str, object]) -> tuple[str, str]:
        try:
            return "answer", (await pool.run({"language": "python3", "code": code, "inputs": inputs}, 10)).decode()
        except workers.WorkerFailed as error:
            return "error", str(error)

    answers = {name: await run(*program) for name, program in json.load(sys.stdin).items()}
    await pool.aclose()
    print(json.dumps({"user": os.geteuid(), "found": answers}))


asyncio.run(main())
