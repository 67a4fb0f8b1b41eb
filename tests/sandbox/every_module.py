"""Imports every module of the standard library of the Python that runs this, in confined processes.

    python -I every_module.py FOLDER [--tests]      FOLDER holds `headrace` and `jinja2`

Prints JSON: how many modules there are, which came through, which others said what, what the modules of each tried to
do beside being imported (audit events), and which files changed, below the installation and in the working folder.
"""

import asyncio
import json
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from headrace.adapters.sandbox.workers import WorkerFailed, Workers
from headrace.adapters.sandbox.zygote_wire import Plan

STANDARD = Path(sysconfig.get_paths()["stdlib"])
LEFT_OUT = {"site-packages", "dist-packages", "__pycache__"}
PROGRAM = """
import importlib, sys
EFFECTS = ('subprocess.', 'os.', 'socket.', 'shutil.', 'tempfile.', 'webbrowser.', 'urllib.', 'ftplib.', 'smtplib.')
READING = {'os.listdir', 'os.scandir', 'os.walk', 'os.fwalk', 'os.listdrives'}
LOG = []
def watch(event, arguments):
    if event == 'open':
        mode, flags = arguments[1:3]
        if flags & 0o3 or (isinstance(mode, str) and set(mode) & set('wax+')):
            LOG.append(f'open {arguments[0]} {mode}')
    elif event.startswith(EFFECTS) and event not in READING:
        LOG.append(event)
def main(names, folder):
    said, tried = {}, {}
    sys.addaudithook(watch)
    for name in names:
        LOG.clear()
        sys.argv = ['nothing', folder]
        try:
            importlib.import_module(name)
        except BaseException as error:
            said[name] = f'{type(error).__name__}: {error}'[:200]
        if LOG:
            tried[name] = sorted(set(LOG))
    return {'said': said, 'tried': tried}
"""


def modules(tests: bool) -> list[str]:
    names: set[str] = set(sys.builtin_module_names)
    for folder, folders, files in os.walk(STANDARD):
        folders[:] = [name for name in folders if name not in LEFT_OUT and (tests or name not in ("test", "tests"))]
        parts = Path(folder).relative_to(STANDARD).parts
        if parts[:1] == ("lib-dynload",):
            parts = ()
        elif not all(part.isidentifier() for part in parts):
            continue
        for file in files:
            name, _, suffix = file.partition(".")
            if suffix == "py" or suffix.endswith("so"):
                names.add(".".join([*parts, *([] if name == "__init__" else [name])]))
    return sorted(names - {""})


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


async def run(names: list[str], workers: Workers) -> dict[str, dict[str, object]]:
    job = {"language": "python3", "code": PROGRAM, "inputs": {"names": names, "folder": f"{os.getcwd()}/made"}}
    try:
        return json.loads(await workers.run(job, 60))
    except WorkerFailed as error:
        if len(names) == 1:
            return {"said": {names[0]: str(error)}, "tried": {}}
    parts = [await run([name], workers) for name in names]  # one of them ended the process
    return {key: {name: what for part in parts for name, what in part[key].items()} for key in ("said", "tried")}


async def main() -> None:
    names = modules("--tests" in sys.argv)

    async def plan() -> Plan:
        return Plan(memory=256 << 20, cpu_seconds=120)

    workers = Workers(plan)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        os.chdir(folder)
        before = state(STANDARD)
        batches = [names[at : at + 25] for at in range(0, len(names), 25)]
        parts = [await run(batch, workers) for batch in batches]
        changed = sorted({path for path, _ in set(before.items()) ^ set(state(STANDARD).items())})
        changed += [str(path) for path in Path(folder).iterdir()]
        os.chdir("/")
    await workers.aclose()
    said = {name: what for part in parts for name, what in part["said"].items()}
    tried = {name: what for part in parts for name, what in part["tried"].items()}
    print(json.dumps({"modules": len(names), "said": said, "tried": tried, "changed": changed}))


asyncio.run(main())
