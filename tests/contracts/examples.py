"""Runs, and events of every type, to write down and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from headrace.kernel.events import (
    Delta,
    Event,
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeFailed,
    NodeLogged,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StepEnded,
    StepStarted,
    StopRequested,
)
from headrace.values import File, Variable

PICTURE = File("image", "local_file", "a.png", ".png", "image/png", 12, None, "0d5f", "http://127.0.0.1/a.png")


def queued(run: str, app: str = "app", user: str = "ada", **inputs: Any) -> RunQueued:
    return RunQueued(app, "v1", f"task-{run}", user, inputs, {"user_id": user}, f"end-{user}")


def numbered(run: str, events: Sequence[Event], after: int = 0, at: float = 1000.0) -> list[Record]:
    """Records numbered on from `after`, half a second apart."""
    return [Record(run, seq, at + seq / 2, event) for seq, event in enumerate(events, after + 1)]


def whole(run: str, status: str = "succeeded", at: float = 1000.0, app: str = "app", **inputs: Any) -> list[Record]:
    """A short run from beginning to end: events 1 to 5."""
    outputs = {"answer": f"done {run}"}
    events = (
        queued(run, app, **inputs),
        RunStarted(),
        NodeStarted("end"),
        NodeSucceeded("end", outputs),
        RunEnded(status, outputs if status == "succeeded" else {}, None if status == "succeeded" else "boom", 7, 1, 0),
    )
    return numbered(run, events, at=at)


texts = st.text(st.characters(), max_size=40)  # any code point: NULs and half surrogate pairs too
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
files = st.builds(
    File,
    st.sampled_from(["image", "document", "audio", "video", "custom"]),
    st.sampled_from(["remote_url", "local_file", "tool_file"]),
    st.none() | texts,
    size=st.integers(-1, 2**40),
    url=st.none() | texts,
)
# keys that look like what stores and the wire put into objects themselves
keys = texts | st.sampled_from(["$", "v", "dify_model_identity", "__headrace_variable__", "__dify__file__"])
marks = st.sampled_from(["__dify__file__", "file", "variable", "int", "object"])
values = st.recursive(
    scalars | files | marks,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Variable, inner, st.tuples(texts, texts), texts)
    ),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=4)
counts = st.integers(0, 2**40)

events: dict[type[Event], st.SearchStrategy[Event]] = {
    RunQueued: st.builds(
        RunQueued,
        texts,
        texts,
        texts,
        texts,
        objects,
        objects | st.fixed_dictionaries({"query": values, "files": values, "dialogue_count": values}),
        st.none() | texts,
        texts,
        conversation=st.none() | texts,
    ),
    RunStarted: st.builds(RunStarted, objects),
    RunPaused: st.builds(RunPaused, st.lists(objects, max_size=3).map(tuple)),
    RunResumed: st.builds(RunResumed, st.booleans()),
    StopRequested: st.builds(StopRequested, texts),
    RunEnded: st.builds(RunEnded, texts, objects, st.none() | texts, counts, counts, counts),
    NodeStarted: st.builds(NodeStarted, texts, objects),
    NodeRetried: st.builds(NodeRetried, texts, counts, texts, texts, objects, objects),
    NodeSucceeded: st.builds(
        NodeSucceeded,
        texts,
        objects,
        objects,
        objects,
        texts,
        st.none() | objects,
        st.dictionaries(texts | st.just("conversation"), objects, max_size=2),
    ),
    NodeFailed: st.builds(
        NodeFailed, texts, texts, texts, objects, objects, objects, st.sampled_from([None, "fail-branch"]), texts
    ),
    NodeSkipped: st.builds(NodeSkipped, texts),
    RoundStarted: st.builds(RoundStarted, texts, counts, objects),
    StepStarted: st.builds(StepStarted, texts, texts, texts, objects),
    StepEnded: st.builds(StepEnded, texts, texts, values),
    FormRequested: st.builds(
        FormRequested,
        texts,
        texts,
        texts,
        texts,
        st.lists(objects, max_size=2),
        st.lists(objects, max_size=2),
        objects,
        st.integers(0, 2**31),
        st.lists(st.fixed_dictionaries({"type": st.just("webapp"), "token": st.uuids().map(str)}), max_size=1),
    ),
    FormSubmitted: st.builds(FormSubmitted, texts, texts, texts, objects, texts, texts),
    FormExpired: st.builds(FormExpired, texts, texts, st.sampled_from(["timeout", "expired"])),
    Delta: st.builds(Delta, texts, texts, counts, texts),
    NodeLogged: st.builds(NodeLogged, texts, texts),
}
assert set(events) == set(get_args(Event)), "an event type has no examples"
any_event = st.one_of(*events.values())
