"""The tables, one schema for SQLite and PostgreSQL; those of chats are in `chat_schema`, of forms in
`form_schema`, of triggers in `trigger_schema`, of knowledge bases in `knowledge_schema`.
Times are seconds since the epoch. A change here needs a migration (`migrations/versions`) and its name at the end of
REVISIONS."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from headrace.stores.sql.chat_schema import PLACE as PLACE
from headrace.stores.sql.chat_schema import annotation_replies as annotation_replies
from headrace.stores.sql.chat_schema import app_annotations as app_annotations
from headrace.stores.sql.chat_schema import conversation_variables as conversation_variables
from headrace.stores.sql.chat_schema import conversations as conversations
from headrace.stores.sql.chat_schema import exchanges as exchanges
from headrace.stores.sql.chat_schema import feedbacks as feedbacks
from headrace.stores.sql.form_schema import form_tokens as form_tokens
from headrace.stores.sql.form_schema import forms as forms
from headrace.stores.sql.knowledge_schema import dataset_vector as dataset_vector
from headrace.stores.sql.knowledge_schema import embedding_cache as embedding_cache
from headrace.stores.sql.schema_base import LISTED as LISTED
from headrace.stores.sql.schema_base import PENDING as PENDING
from headrace.stores.sql.schema_base import RUNNING as RUNNING
from headrace.stores.sql.schema_base import WAITING as WAITING
from headrace.stores.sql.schema_base import metadata as metadata
from headrace.stores.sql.schema_base import partial_index
from headrace.stores.sql.trigger_schema import trigger_subscriptions as trigger_subscriptions
from headrace.stores.sql.trigger_schema import triggers as triggers

# every migration, in order; here so that opening a database at the newest one need not import Alembic
REVISIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
    "0015",
    "0016",
    "0017",
    "0018",
    "0019",
    "0020",
)
# The oldest of these whose version of Headrace can work with the newest, while processes are replaced one by one. A
# migration that only adds (tables, indexes, columns that may be null or have a server default) leaves it as it is. One
# that removes, renames or restricts anything sets it to itself; so does one that adds a table which may mention stored
# files, since older versions would delete them.
READABLE_BY = "0020"

# a row has the records of one append: see `stores.encoding`
events = Table(
    "events",
    metadata,
    Column("run", String, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("type", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("more", Integer, nullable=False, server_default="0"),
)

runs = Table(
    "runs",
    metadata,
    Column("run", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("app", String, nullable=False),
    Column("version", String, nullable=False),
    Column("status", String, nullable=False),
    Column("source", String, nullable=False),
    Column("end_user", String),
    Column("session", String, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    Column("error", Text),
    Column("elapsed", Double, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("exceptions", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("owner", String),
    Column("key", String),
    Column("price", BigInteger),
    Column("currency", String),
    Column("error_node", Text),
    Column("min_version", Integer, nullable=False, server_default="1"),
)
Index("ix_runs_app_created_at", runs.c.app, runs.c.created_at)
Index("ix_runs_session", runs.c.app, runs.c.session, runs.c.created_at)
Index("ix_runs_version", runs.c.app, runs.c.version, runs.c.created_at)
Index("ix_runs_task", runs.c.task)
# the reconciler looks for unfinished runs every few seconds: they are few among all
partial_index("ix_runs_open", "finished_at IS NULL", runs.c.created_at)
# for those that succeed, this index costs nothing
UNUSUAL = "status NOT IN ('succeeded', 'running')"
partial_index("ix_runs_unusual", UNUSUAL, runs.c.app, runs.c.status, runs.c.created_at)
# the API itself makes nearly all runs, and they should not pay for the index that counts a batch's runs
SERVICE = "service-api"
partial_index("ix_runs_source", f"source <> '{SERVICE}'", runs.c.source, runs.c.status)
# of ended runs: see `stores.projection.SumKey`
_SUM_KEY = (("app", String), ("day", Integer), ("model", Text), ("key", Text), ("end_user", Text), ("currency", String))
run_sums = Table(
    "run_sums",
    metadata,
    *(Column(name, type_, primary_key=True, autoincrement=False) for name, type_ in (*_SUM_KEY, ("bucket", Integer))),
    *(Column(name, BigInteger, nullable=False) for name in ("runs", "failed", "tokens", "price")),
    sqlite_with_rowid=False,
)
UNFINISHED = (runs.c.finished_at.is_(None), runs.c.status != "paused")
# `began` distinguishes a process from a later one with the same id
workers = Table(
    "workers",
    metadata,
    Column("id", String, primary_key=True),
    Column("seen_at", Double, nullable=False),
    Column("host", String),
    Column("pid", BigInteger, nullable=False),
    Column("began", String),
)

# runs that wait for a worker of any process; only those that no worker could drive at once
ready_runs = Table(
    "ready_runs",
    metadata,
    Column("run", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("ready_at", Double, nullable=False),
)
Index("ix_ready_runs_turn", ready_runs.c.priority, ready_runs.c.workspace, ready_runs.c.ready_at, ready_runs.c.run)

# what a background loop works on: no other worker's as long as its owner is among the workers
claims = Table(
    "claims",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
)

# calls of models under a limit: how many each worker has in progress and waiting, and its place in the line
model_slots = Table(
    "model_slots",
    metadata,
    Column("name", String, primary_key=True),
    Column("worker", String, primary_key=True),
    Column("active", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("turn", BigInteger, nullable=False),
)

installation = Table(
    "installation",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

apps = Table(
    "apps",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", Text, nullable=False),
    Column("mode", String, nullable=False),
    Column("source", Text, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("settings", LargeBinary, nullable=False),
    Column("workspace", String, nullable=False, server_default="default"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_versions_app_number", versions.c.app, versions.c.number)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, index=True),
    Column("digest", String, nullable=False, unique=True),
    Column("prefix", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("workspace", String, nullable=False, server_default="default"),
    Column("name", Text, nullable=False, server_default=""),
    Column("permissions", String, nullable=False, server_default="manage read run"),  # in this order
    Column("apps", LargeBinary),
    Column("expires_at", Double),
    Column("replaced_by", String),
    Column("used_at", Double),
)
Index("ix_keys_workspace", keys.c.workspace, keys.c.created_at, keys.c.id)

audit = Table(
    "audit",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("action", String, nullable=False),
    Column("by", String, nullable=False),
    Column("key", String, nullable=False),
    Column("about", LargeBinary, nullable=False),
)
Index("ix_audit_workspace", audit.c.workspace, audit.c.at, audit.c.id)

end_users = Table(
    "end_users",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("session", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("app", "session"),
)

files = Table(
    "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String),
    Column("owner", String),
    Column("created_at", Double, nullable=False),
    Column("file", LargeBinary, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("app", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("status", Integer),
    Column("body", LargeBinary, nullable=False),
)

callbacks = Table(
    "callbacks",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("run", String, nullable=False),
    Column("url", Text, nullable=False),
    Column("event", String, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("status", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("delivered_at", Double),
)
Index("ix_callbacks_run", callbacks.c.run, callbacks.c.seq)
# the webhook sender looks for due ones all the time: they are few among all
partial_index("ix_callbacks_due", PENDING, callbacks.c.next_at)

batches = Table(
    "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("version", String, nullable=False),
    Column("user", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("rpm", Integer),
    Column("status", String, nullable=False),
    Column("ended_at", Double),
    Column("key", String),
)
Index("ix_batches_app_created_at", batches.c.app, batches.c.created_at)
partial_index("ix_batches_running", RUNNING, batches.c.created_at)

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("error", Text),
    Column("query", Text),
    Column("conversation", String),
)

buckets = Table(
    "buckets",
    metadata,
    Column("name", String, primary_key=True),
    Column("tokens", Double, nullable=False),
    Column("at", Double, nullable=False),
)
# runs that occupy a slot; ended ones are removed when it gets full
slots = Table(
    "slots",
    metadata,
    Column("name", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("at", Double, nullable=False),
)
