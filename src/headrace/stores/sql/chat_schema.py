"""The tables of chats. They are a part of `schema`."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, Index, Integer, LargeBinary, String, Table, Text

from headrace.stores.sql.schema_base import LISTED, RUNNING, metadata, partial_index

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("end_user", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("introduction", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("deleted", Boolean, nullable=False),
)
# an end user's are listed in either order, from any place in it
for order in (conversations.c.created_at, conversations.c.updated_at):
    place = (conversations.c.app, conversations.c.end_user, order, conversations.c.id)
    partial_index(f"ix_conversations_{order.name}", LISTED, *place)

conversation_variables = Table(
    "conversation_variables",
    metadata,
    Column("id", String, primary_key=True),
    Column("conversation", String, nullable=False),
    Column("number", Integer, nullable=False),  # variables added together keep their order
    Column("name", Text, nullable=False),
    Column("type", String, nullable=False),
    Column("description", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)
Index("ix_conversation_variables_name", conversation_variables.c.conversation, conversation_variables.c.name)

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("conversation", String),
    Column("end_user", String),
    Column("inputs", LargeBinary, nullable=False),
    Column("query", Text, nullable=False),
    Column("files", LargeBinary, nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("status", String, nullable=False),
    Column("answer", Text, nullable=False),
    Column("answer_files", LargeBinary, nullable=False),
    Column("error", Text),
    Column("retry_of", String),
)
# the order of the exchanges of a conversation
PLACE = (exchanges.c.number, exchanges.c.created_at, exchanges.c.id)
Index("ix_exchanges_place", exchanges.c.conversation, *PLACE)
# if two processes give the same number, the second one fails
numbered = (exchanges.c.conversation, exchanges.c.number)
partial_index("ix_exchanges_number", "number > 0 AND retry_of IS NULL", *numbered, unique=True)
# which one may run, before and after every run of a conversation. With the status, SQLite prefers it to the one above
partial_index("ix_exchanges_running", RUNNING, exchanges.c.conversation, exchanges.c.status, *PLACE)

feedbacks = Table(
    "feedbacks",
    metadata,
    Column("message", String, primary_key=True),
    Column("end_user", String, primary_key=True),
    Column("id", String, nullable=False),
    Column("app", String, nullable=False),
    Column("rating", String, nullable=False),
    Column("content", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)
Index("ix_feedbacks_app_created_at", feedbacks.c.app, feedbacks.c.created_at, feedbacks.c.id)

app_annotations = Table(
    "annotations",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("hits", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_annotations_app_created_at", app_annotations.c.app, app_annotations.c.created_at, app_annotations.c.id)

annotation_replies = Table(
    "annotation_replies",
    metadata,
    Column("app", String, primary_key=True),
    Column("setting", LargeBinary, nullable=False),
)
