"""Plans: the limits of a workspace, an app and a key, in a file that is read again when it changes."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.cache import FileCache
from headrace.errors import LoadError, Problem

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # how often a change of the plans' file is looked for
LARGEST_FILE = 1024 * 1024  # bytes of it
_MB = 1024 * 1024
_LONGEST_TITLE = 100

Count = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]


class Plan(BaseModel):
    """Limits; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Count | None = None
    concurrent_runs: Count | None = None
    runs_per_day: Count | None = None
    max_upload_mb: Annotated[float, Field(gt=0, le=1_000_000, strict=True, allow_inf_nan=False)] | None = None


Named = dict[Annotated[str, Field(strict=True)], str]


class Plans(BaseModel):
    """A file of plans, and who has which. `default` is that of workspaces that are not listed; an app is listed by its
    id, or else by its name; a key by its id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plans: dict[Annotated[str, Field(strict=True)], Plan] = {}
    default: str | None = None
    workspaces: Named = {}
    apps: Named = {}
    keys: Named = {}


def load_plans(path: Path) -> Plans:
    """Reads a file of plans, YAML or JSON. LoadError, in one line that names the field, where it is not valid."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise _wrong(path, f"the file is larger than {LARGEST_FILE // _MB} MB")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _wrong(path, f"is not UTF-8 text (byte {error.start})") from error
    try:
        plans = Plans.model_validate(_parsed(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise _wrong(path, f"{where or 'the file'}: {first['msg']}") from None
    except ValueError as error:
        raise _wrong(path, str(error)) from error
    for where, plan in _mentioned(plans):
        if plan not in plans.plans:
            raise _wrong(path, f"{where}: there is no plan {plan[:_LONGEST_TITLE]!r}")
    return plans


def _wrong(path: Path, message: str) -> LoadError:
    return LoadError(str(path), [Problem(" ".join(message.split()))])


def _mentioned(plans: Plans) -> list[tuple[str, str]]:
    """(where, which plan) of each mention."""
    plans_by_name = [("default", plans.default)] if plans.default is not None else []
    for kind, names in (("workspaces", plans.workspaces), ("apps", plans.apps), ("keys", plans.keys)):
        plans_by_name += [(f"{kind}.{name}", plan) for name, plan in names.items()]
    return plans_by_name


def _parsed(text: str) -> object:
    """The content of a YAML text. ValueError if it is not valid, or has a key twice."""
    import yaml  # takes 20 ms to import; most installations have no plans

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names: set[str] = set()
            for name, _ in node.value:
                if isinstance(name, yaml.ScalarNode):
                    if name.value in names:
                        raise ValueError(f"line {name.start_mark.line + 1}: {name.value!r} is given twice")
                    names.add(name.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


class PlanFile:
    """The plans of a file, read again when it changes; if that fails, it is logged and the old ones remain."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._plans = FileCache(path, load_plans)
        self._check_at = time.monotonic() + CHECK_SECONDS
        self.version = 0  # counts changes

    def current(self) -> Plans:
        """Those in force now."""
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_SECONDS
            self._reload()
        return self._plans.value

    def _reload(self) -> None:
        try:
            has_changed = self._plans.refresh()
        except LoadError as error:
            logger.error("the previous plans remain in force: %s", error)
            return
        if has_changed:
            self.version += 1
            logger.info("%s: the plans were reloaded", self._path)
