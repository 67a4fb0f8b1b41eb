"""The doors to storage and to other processes, as protocols. Each has one contract suite that every implementation
passes (`tests/contracts`).

Only the journal and the catalog must be right; the queue and the bus need only be fast: what they lose, the journal
brings back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from headrace.kernel.events import Record, RunId
from headrace.resources import Turn
from headrace.values import File, Value

# --------------------------------------------------------------------------------------------------------- journal


class Leases(Protocol):
    """Which of the workers on one database goes on with which run.

    A run belongs to the worker that took it in (RunQueued) or took it up (RunStarted, RunResumed), from the append of
    that on. Nobody's are those of a process that does no runs, those that are paused or handed back, and those whose
    worker is dead.
    """

    async def alive(self) -> bool:
        """Says that this worker lives: once before runs can be its own, and then every few seconds. Whether another
        one was found dead."""
        ...

    async def adrift(self) -> list[RunId]:
        """The unfinished runs (see `Journal.unfinished`) that are nobody's or this worker's own, oldest first: what a
        reconciler puts back into the queue."""
        ...

    async def take_up(self, run: RunId) -> bool:
        """Makes a run that is nobody's this worker's own. False if it is another's: of two who ask, one gets it."""
        ...

    async def hand_back(self, keep: Collection[RunId] = ()) -> None:
        """Makes this worker's runs nobody's, but for those to keep."""
        ...

    async def heads(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        """The number of the last event of each of these runs, as far as another process can have written it."""
        ...


class Journal(Leases, Protocol):
    """Every run's durable events, in order. (run, seq) is written once: whoever comes second gets Conflict."""

    def append(self, records: Sequence[Record]) -> Awaitable[None]:
        """Begins to write records of one run, numbered on from its last; appends take effect in the order of calls.

        The awaitable is done once they are as safe as the store makes them; until then nobody outside the process may
        be told. Raises Conflict (from the awaitable) if a number is taken: then none of these records is written.
        """
        ...

    async def read(self, run: RunId, after: int = 0) -> list[Record]:
        """The run's records with a number above `after`, in order; [] for an unknown run."""
        ...

    async def unfinished(self) -> list[RunId]:
        """Runs without a RunEnded (and not paused), oldest first, whoever goes on with them."""
        ...


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs; times in seconds since the epoch, `elapsed` in seconds."""

    run: RunId
    app: str
    version: str
    status: str
    source: str
    end_user: str | None
    session: str  # the `user` that the caller gave
    error: str | None
    elapsed: float
    tokens: int
    steps: int
    exceptions: int
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of an app to list; None does not filter. Times in seconds since the epoch."""

    app: str
    status: str | None = None
    before: float | None = None
    after: float | None = None
    session: str | None = None
    keyword: str | None = None  # found in the inputs or outputs, or a run's id
    page: int = 1
    limit: int = 20
    version: str | None = None
    source: str | None = None
    older: tuple[float, RunId] | None = None  # (created_at, id) of a run: those that come after it in the list
    counted: bool = True  # False: how many there are in all is not asked for, and may be told wrong


class Runs(Protocol):
    """Lists of runs: a projection of the journal, kept by the store that keeps the journal."""

    async def list_runs(self, which: RunFilter) -> tuple[int, list[RunSummary]]:
        """(how many there are in all, the page asked for), newest first."""
        ...

    async def find_run(self, run: RunId) -> RunSummary | None: ...

    async def find_task(self, task: str) -> RunId | None:
        """The run that a task id names."""
        ...


# ----------------------------------------------------------------------------------------------------- queue, bus


class Queue(Protocol):
    """Runs waiting for a worker. A message is a hint: lost or doubled, no run is."""

    async def put(self, run: RunId) -> None: ...

    def claim(self, worker: str) -> AbstractAsyncContextManager[RunId]:
        """Waits for a run; holds its lease (renewed) until the block ends. A block left by an exception, or a worker
        that dies, gives the run back."""
        ...


class Bus(Protocol):
    """Records told to whoever follows a run, as they happen."""

    def publish(self, records: Sequence[Record]) -> None: ...

    def subscribe(self, run: RunId) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        """All records published for the run from the moment the block is entered, as many at a time as there are."""
        ...


# --------------------------------------------------------------------------------------------------------- catalog


WORKSPACE = "default"
"""The workspace that everything is in where nobody speaks of workspaces."""

WORKSPACE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a workspace may be called."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key, or somebody whom an identity provider vouches for.

    `id` is the key's, or the issuer's name for the caller; `permissions` are of run, read and manage; `apps` are those
    it may call, None for all of the workspace; `app` is the one that an app's own key opens.
    """

    id: str
    workspace: str
    permissions: frozenset[str]
    apps: frozenset[str] | None = None
    app: str | None = None


class Identity(Protocol):
    """An identity provider: bearer tokens that are no keys of ours."""

    async def principal(self, token: str) -> Principal:
        """Whom a token stands for. Unauthorized where it is not valid here and now."""
        ...


@dataclass(frozen=True, slots=True)
class App:
    """A served workflow file. `source` is where it was read from (an absolute path, or any name)."""

    id: str
    name: str
    mode: str
    source: str
    version: str  # the current one
    description: str = ""
    created_at: float = 0.0
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])  # icon, icon_background, ...
    workspace: str = WORKSPACE


@dataclass(frozen=True, slots=True)
class Version:
    """One content of an app's file: what Dify calls a workflow id. `number` counts an app's versions from 1."""

    id: str
    app: str
    number: int
    digest: str  # sha256 of the content, hex
    content: str  # YAML, as it was
    created_at: float


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, as far as it may be known again: only its hash is stored. `app` is the one that it opens; without it,
    it is a workspace's key, for `apps` (None: all of the workspace). `permissions` are of run, read and manage;
    `replaced_by` is the id of the key that it was rotated to, `used_at` when it last opened something, within a minute
    or so."""

    id: str
    app: str | None
    digest: str  # sha256 of the key, hex
    prefix: str  # its first characters, to tell it from others
    created_at: float
    revoked_at: float | None = None
    workspace: str = WORKSPACE
    name: str = ""
    permissions: frozenset[str] = frozenset({"run", "read", "manage"})
    apps: frozenset[str] | None = None
    expires_at: float | None = None
    replaced_by: str | None = None
    used_at: float | None = None

    def live(self, now: float) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Audited:
    """Something that was done to a workspace's keys. `action` is created, rotated or revoked; `by` is a principal's id,
    `cli`, or `headrace` for keys that come with an app; `key` is the id of the key that it was done to."""

    id: str
    workspace: str
    at: float
    action: str
    by: str
    key: str
    about: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True)
class EndUser:
    """Somebody in whose name an app is called; `session` is the `user` of the calls."""

    id: str
    app: str
    session: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What is known of a stored file; its bytes are elsewhere."""

    id: str
    file: File
    app: str | None
    owner: str | None
    created_at: float


class Catalog(Protocol):
    """What is served, to whom, and the files that came in."""

    async def apps(self, workspace: str | None = None) -> list[App]:
        """Oldest first; None: those of every workspace."""
        ...

    async def app(self, app: str) -> App | None: ...
    async def app_of_source(self, source: str, workspace: str = WORKSPACE) -> App | None: ...
    async def save_app(self, app: App) -> None:
        """Adds or replaces."""
        ...

    async def remove_app(self, app: str) -> bool:
        """Removes an app with its keys and versions; its runs stay. False if there is none."""
        ...

    async def versions(self, app: str) -> list[Version]:
        """Newest first."""
        ...

    async def version(self, version: str) -> Version | None: ...
    async def add_version(self, version: Version) -> None: ...

    async def keys(self, app: str | None = None) -> list[Key]:
        """The keys that open just this app, or all keys of every workspace; oldest first."""
        ...

    async def keys_of_workspace(
        self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20
    ) -> list[Key]:
        """Newest first, those that come after the key of this (created_at, id)."""
        ...

    async def key_of(self, digest: str) -> Key | None: ...

    async def find_key(self, key: str) -> Key | None:
        """By its id, as it is this very moment."""
        ...

    async def add_key(self, key: Key, audited: Audited | None = None) -> None:
        """Adds; one with the same digest is left as it is, and then nothing is audited."""
        ...

    async def replace_key(self, key: str, new: Key, until: float, audited: Audited) -> bool:
        """Adds `new`, and lets the key of an id end at `until`, or when it would have anyway. False, and nothing is
        done, if there is none that is neither revoked, expired (at `audited.at`) nor replaced already."""
        ...

    async def revoke_key(self, key: str, at: float, audited: Audited | None = None) -> bool:
        """By id. False, and nothing is audited, if there is none that is not revoked already."""
        ...

    async def touch_key(self, key: str, at: float) -> None:
        """That a key, by id, has opened something."""
        ...

    async def audit(self, workspace: str, *, older: tuple[float, str] | None = None, limit: int = 20) -> list[Audited]:
        """What was done to a workspace's keys, newest first, from after the entry of this (at, id)."""
        ...

    async def end_user(self, app: str, session: str, at: float) -> EndUser:
        """The end user of that name, made if new; two callers at once get the same one."""
        ...

    async def find_end_user(self, end_user: str) -> EndUser | None: ...

    async def add_file(self, stored: StoredFile) -> None: ...
    async def find_file(self, file: str) -> StoredFile | None: ...


# ---------------------------------------------------------------------------------------------------------- limits


class Bucket(NamedTuple):
    """A token bucket: `rate` tokens a second flow into it, until there are `capacity`."""

    name: str
    capacity: float
    rate: float


class Taken(NamedTuple):
    """Whether a token could be taken, how many are left, and otherwise in how many seconds one can be."""

    taken: bool
    left: float
    wait: float


class Slot(NamedTuple):
    """Room for runs that have not ended, `limit` of them."""

    name: str
    limit: int


class Buckets(Protocol):
    """Token buckets, and room for runs, that hold for every process on the same database."""

    async def take(self, buckets: Sequence[Bucket], now: float) -> list[Taken]:
        """Takes one token of each, or of none where one of them is empty; tells of each, in order."""
        ...

    async def admit(
        self, run: RunId, buckets: Sequence[Bucket], slots: Sequence[Slot], now: float, *, known: bool = False
    ) -> list[Taken]:
        """As `take`, and takes a place of each slot too, or of none: tells of the buckets, then of the slots. A run
        has its places from now until it ends; while it is paused they are free for others, and if it does not come to
        be, after a minute. `known`: where there is a run of this id already, nothing is taken, and [] told."""
        ...


# --------------------------------------------------------------------------------------------------- conversations


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of an end user with an app. What was said in it are its runs; see `Exchange`."""

    id: str
    app: str
    end_user: str
    name: str
    inputs: Mapping[str, Value]
    introduction: str  # the opening statement, as it was when the conversation began
    created_at: float
    updated_at: float
    deleted: bool = False  # its runs stay


@dataclass(frozen=True, slots=True)
class ConversationVariable:
    """A conversation variable's value now. `type` is Dify's (string, number, array[object] ...)."""

    id: str
    conversation: str
    name: str
    type: str
    description: str
    value: Value
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What an end user thinks of an exchange; `rating` is like or dislike."""

    id: str
    app: str
    message: RunId
    rating: str
    content: str | None
    end_user: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """A message of a chat or completion app and its answer: a run, as lists show it. Its id is the run's.

    A projection of the journal: it comes into being with a RunQueued whose `system` has a `query`, and takes its
    answer and files from the RunEnded (`outputs` answer and files). `number` counts a conversation's exchanges from 1.
    """

    id: RunId
    app: str
    conversation: str | None  # completion apps have none
    end_user: str | None
    inputs: Mapping[str, Value]
    query: str
    files: Sequence[File]
    number: int
    created_at: float
    status: str = "running"
    answer: str = ""
    answer_files: Sequence[File] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """An answer written by a person, given instead of the app's to the questions it fits."""

    id: str
    app: str
    question: str
    answer: str
    hits: int
    created_at: float


class Conversations(Protocol):
    """Conversations and what belongs to them. Exchanges and the variables that runs assign (`NodeSucceeded.assigned`
    under `conversation`) are written in the transaction that appends the event."""

    async def add_conversation(self, conversation: Conversation, variables: Sequence[ConversationVariable]) -> None: ...

    async def save_conversation(self, conversation: Conversation) -> bool:
        """Replaces the one of the same id, unless it was deleted. False where there is none to replace."""
        ...

    async def find_conversation(self, conversation: str) -> Conversation | None:
        """Deleted ones too."""
        ...

    async def conversations(
        self, app: str, end_user: str, *, after: str | None = None, limit: int = 20, order: str = "-updated_at"
    ) -> tuple[list[Conversation], bool]:
        """(those that are not deleted, whether there are more), from the one that follows `after` in the order:
        created_at or updated_at, with a minus newest first."""
        ...

    async def conversation_variables(self, conversation: str) -> list[ConversationVariable]:
        """Oldest first, those made together in the order they were given."""
        ...

    async def save_conversation_variable(self, variable: ConversationVariable) -> None:
        """Replaces the one of the same id, or adds."""
        ...

    async def exchanges(
        self, conversation: str, *, before: RunId | None = None, limit: int = 20
    ) -> tuple[list[Exchange], bool]:
        """(the newest that came before one, newest first; whether there are older ones)."""
        ...

    async def find_exchange(self, message: RunId) -> Exchange | None: ...

    async def next_exchange(self, conversation: str) -> RunId | None:
        """The oldest that has not ended and is not paused: the only one that may run."""
        ...

    async def turns(self, conversation: str, before: RunId, limit: int) -> list[Turn]:
        """The newest that came before a run and have an answer, oldest first (`resources.History`)."""
        ...

    async def save_feedback(self, feedback: Feedback) -> None:
        """Adds, or replaces what the same end user thought of the same message."""
        ...

    async def remove_feedback(self, message: RunId, end_user: str) -> None: ...
    async def feedback_of(self, messages: Sequence[RunId], end_user: str) -> Mapping[RunId, Feedback]: ...

    async def feedbacks(self, app: str, page: int = 1, limit: int = 20) -> list[Feedback]:
        """Newest first."""
        ...

    async def annotations(
        self, app: str, keyword: str = "", page: int = 1, limit: int = 20
    ) -> tuple[int, list[Annotation]]:
        """(how many there are in all whose question or answer has the keyword, the page asked for), newest first."""
        ...

    async def find_annotation(self, annotation: str) -> Annotation | None: ...

    async def save_annotation(self, annotation: Annotation) -> None:
        """Adds or replaces."""
        ...

    async def remove_annotation(self, annotation: str) -> bool: ...

    async def annotation_reply(self, app: str) -> Mapping[str, Value] | None:
        """The app's setting of annotation reply as last put; None: it is off."""
        ...

    async def save_annotation_reply(self, app: str, setting: Mapping[str, Value] | None) -> None: ...


# ------------------------------------------------------------------------------- what the asynchronous API remembers


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The first answer to a request that came with an Idempotency-Key; `status` is None while it is being made."""

    app: str
    key: str
    digest: str  # of the request: another one under the same key is a conflict
    created_at: float
    status: int | None = None
    body: bytes = b""


class Answers(Protocol):
    """First answers, kept so that a repeated request gets the same."""

    async def claim_answer(self, app: str, key: str, digest: str, at: float, expired: float) -> KeptAnswer | None:
        """None: the caller is the first, and is to `keep_answer` or `release_answer`. Else what the first one left.
        One made before `expired` counts as if it were not there."""
        ...

    async def keep_answer(self, app: str, key: str, status: int, body: bytes) -> None: ...

    async def release_answer(self, app: str, key: str) -> None:
        """There is no answer to keep: the next caller is the first again."""
        ...

    async def find_answer(self, app: str, key: str) -> KeptAnswer | None: ...


@dataclass(frozen=True, slots=True)
class Callback:
    """A message to a run's `callback_url`: that it ended or paused. Its id is the same at every try.

    `status` is pending, delivered or failed; `next_at` is when it is tried next (None: not any more).
    """

    id: str
    app: str
    run: str
    url: str
    event: str  # run.succeeded, run.partial-succeeded, run.failed, run.stopped, run.paused
    seq: int  # of the record that it tells
    created_at: float
    status: str = "pending"
    attempts: int = 0
    next_at: float | None = None
    last_status: int | None = None  # HTTP status of the last try
    last_error: str | None = None
    delivered_at: float | None = None


class Callbacks(Protocol):
    """Messages to be delivered. One comes into being in the transaction that ends or pauses its run (`callback_of`)."""

    async def due_callbacks(self, now: float, limit: int = 100) -> list[Callback]:
        """Pending ones whose `next_at` has come, the longest due first."""
        ...

    async def save_callback(self, callback: Callback) -> None:
        """Replaces the one of the same id."""
        ...

    async def find_callback(self, callback: str) -> Callback | None: ...

    async def callbacks_of(self, run: RunId) -> list[Callback]:
        """Oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Many runs of one version, asked for at once. `status` is running, stopped or ended; `key` is the id of the
    principal who asked, where its plan counts."""

    id: str
    app: str
    version: str
    user: str
    total: int
    created_at: float
    concurrency: int = 10
    rpm: int | None = None  # runs begun a minute, at most
    status: str = "running"
    ended_at: float | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One line of a batch, from 0: the inputs of one run. `error` says why it could not become one."""

    index: int
    inputs: Mapping[str, Value]
    error: str | None = None


class Batches(Protocol):
    """Batches and their lines. Which run does a line follows from the batch's id and the line's index alone."""

    async def add_batch(self, batch: Batch, lines: Sequence[BatchLine]) -> None: ...
    async def save_batch(self, batch: Batch) -> None: ...
    async def find_batch(self, batch: str) -> Batch | None: ...

    async def batches(self, app: str | None = None, status: str | None = None) -> list[Batch]:
        """Newest first."""
        ...

    async def batch_lines(self, batch: str, start: int = 0, limit: int = 1000) -> list[BatchLine]:
        """Lines from an index on, in order."""
        ...

    async def count_runs(self, source: str) -> Mapping[str, int]:
        """How many runs of a source (`RunQueued.source`) there are of each status."""
        ...


# --------------------------------------------------------------------------------------- what is kept, and what is not


class Pruned(NamedTuple):
    """How many of each were deleted, or would be."""

    runs: int = 0
    events: int = 0
    messages: int = 0
    feedbacks: int = 0
    callbacks: int = 0
    conversations: int = 0
    batches: int = 0
    files: int = 0
    file_bytes: int = 0

    def plus(self, other: Pruned) -> Pruned:
        return Pruned(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Began:
    """The moment at which a search for unused files began: what was written before it is found by the search."""

    at: float
    open: frozenset[RunId]  # runs that had not ended then, and may write more


class Keeping(Protocol):
    """Deleting what nobody needs any more, a little at a time: what else is written does not wait for it.

    Whoever gives up a generator, or is killed, leaves nothing half deleted but what the next one takes away. With
    `dry_run` nothing is deleted, and the same is told.
    """

    def prune(
        self, ended_before: Mapping[str, float], all_before: float | None = None, *, dry_run: bool = False
    ) -> AsyncGenerator[tuple[Sequence[RunId], Pruned]]:
        """Deletes the runs that ended with a status before its time, with their events, messages, feedbacks and
        callbacks; yields which, and how much of each. Those with callbacks to be delivered stay until they are.

        Besides, batches that ended before `all_before`, with their lines, and conversations that have no messages any
        more and in which nothing has happened since then. Runs of a batch stay as long as the batch.
        """
        ...

    async def began(self) -> Began: ...

    async def old_files(self, added_before: float) -> list[str]:
        """The ids of stored files from before a time."""
        ...

    async def known_files(self, ids: Collection[str]) -> set[str]:
        """Those of these files that there are."""
        ...

    async def mentioned(self, ids: Collection[str], without: Collection[RunId] = ()) -> set[str]:
        """Those of these files that anything speaks of, in whatever way, but for these runs."""
        ...

    async def mentioned_since(self, ids: Collection[str], began: Began) -> set[str]:
        """Those of these files that runs have come to speak of since a search for them began."""
        ...

    async def remove_files(self, ids: Collection[str]) -> None: ...

    async def give_back(self) -> int:
        """Gives the room of what was deleted back to the file system, where the database can while it is used; how
        many bytes."""
        ...

    async def vacuum(self) -> None:
        """Writes the database anew, without gaps. It cannot be written to meanwhile."""
        ...


class Shelf(Protocol):
    """Where the bytes of stored files are. A file that is about to be used is touched first, so that of a file that is
    set aside nobody has just begun to make use."""

    async def idle(self, files: Sequence[str], since: float) -> list[str]:
        """Those that were not used since a time, and those of which there is nothing."""
        ...

    async def set_aside(self, file: str, since: float) -> bool:
        """Makes a file one that there is not. False, and it stays, if it was used since a time."""
        ...

    async def put_back(self, file: str) -> None: ...

    async def remove(self, file: str) -> int:
        """Deletes a file that was set aside; how many bytes."""
        ...

    async def size(self, file: str) -> int: ...

    async def left_over(self, before: float) -> list[str]:
        """Files set aside before a time, by one who did not come to an end with it; what else such leave is deleted."""
        ...
