"""Conversations in a database. What runs do to them is written with the journal (`ExchangeWork`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select, text, tuple_, update
from sqlalchemy.engine import RowMapping

from headrace.kernel.events import RunId
from headrace.ports import Annotation, Conversation, ConversationVariable, Feedback, Message
from headrace.ports.services import Turn
from headrace.stores.encoding import clean, cleaned, decode_value, decoded, encode_value, values_of
from headrace.stores.projection import order_of
from headrace.stores.sql.repository import SqlRepository, inserting, put
from headrace.stores.sql.schema import (
    LISTED,
    PLACE,
    RUNNING,
    annotation_replies,
    app_annotations,
    conversation_variables,
    conversations,
    exchanges,
    feedbacks,
)
from headrace.values import Value

_MOST = 2**31 - 1  # the highest limit of a statement
_NAMED = 500  # messages in one statement
_VARIABLE = tuple(field.name for field in fields(ConversationVariable))


class SqlConversations(SqlRepository):
    """Implements Conversations."""

    # --------------------------------------------------------------------------------------------- conversations

    async def add_conversation(self, conversation: Conversation, variables: Sequence[ConversationVariable]) -> None:
        """See `Conversations`; one with the same id stays as it is, with its variables."""
        values = cleaned(values_of(conversation, "inputs"))
        rows = [{**values_of(variable, "value"), "number": number} for number, variable in enumerate(variables)]

        def work(connection: Connection) -> None:
            insert = inserting(connection, conversations).on_conflict_do_nothing().returning(conversations.c.id)
            if connection.execute(insert, values).first() is not None:
                for row in rows:
                    put(connection, conversation_variables, row)

        await self._write(work)

    async def save_conversation(self, conversation: Conversation) -> bool:
        values = cleaned(values_of(conversation, "inputs"))
        statement = update(conversations).where(conversations.c.id == values["id"], text(LISTED)).values(values)
        return await self._execute(statement) > 0

    async def find_conversation(self, conversation: str) -> Conversation | None:
        row = await self._database.row(select(conversations).where(conversations.c.id == clean(conversation)))
        return Conversation(**decoded(row, "inputs")) if row else None

    async def conversations(
        self, app: str, end_user: str, *, after: str | None = None, limit: int = 20, order: str = "-updated_at"
    ) -> tuple[list[Conversation], bool]:
        """See `Conversations`; nothing comes after one that is unknown, or another end user's. ValueError for an
        unknown order."""
        field, newest_first = order_of(order)
        of = (conversations.c.app == clean(app), conversations.c.end_user == clean(end_user))
        place = (conversations.c[field], conversations.c.id)
        # in these words, so that the index can be used
        statement = select(conversations).where(*of, text(LISTED))
        statement = statement.order_by(*((column.desc() for column in place) if newest_first else place))

        def work(connection: Connection) -> tuple[list[RowMapping], bool]:
            page = statement
            if after is not None:
                start = connection.execute(select(*place).where(*of, conversations.c.id == clean(after))).first()
                if start is None:
                    return [], False
                page = page.where(tuple_(*place) < tuple(start) if newest_first else tuple_(*place) > tuple(start))
            return _page(connection, page, limit)

        rows, more = await self._database.run(work)
        return [Conversation(**decoded(row, "inputs")) for row in rows], more

    async def conversation_variables(self, conversation: str) -> list[ConversationVariable]:
        variables = conversation_variables.c
        statement = (
            select(conversation_variables)
            .where(variables.conversation == clean(conversation))
            .order_by(variables.created_at, variables.number, variables.id)
        )
        rows = [decoded(row, "value") for row in await self._database.rows(statement)]
        return [ConversationVariable(**{name: row[name] for name in _VARIABLE}) for row in rows]

    async def save_conversation_variable(self, variable: ConversationVariable) -> None:
        variables = conversation_variables.c
        values = values_of(variable, "value")
        last = select(func.max(variables.number)).where(variables.conversation == clean(variable.conversation))

        def work(connection: Connection) -> None:
            number = connection.execute(last).scalar()
            values["number"] = 0 if number is None else number + 1
            put(connection, conversation_variables, values, keep=("number",))

        await self._write(work)

    # -------------------------------------------------------------------------------------------------- messages

    async def messages(
        self, conversation: str, *, before: RunId | None = None, limit: int = 20
    ) -> tuple[list[Message], bool]:
        """See `Conversations`; nothing comes before one that is unknown, or of another conversation."""

        def work(connection: Connection) -> tuple[list[RowMapping], bool]:
            older = _older(connection, conversation, before)
            return ([], False) if older is None else _page(connection, older, limit)

        rows, more = await self._database.run(work)
        return [_message(row) for row in rows], more

    async def find_message(self, message: RunId) -> Message | None:
        row = await self._database.row(select(exchanges).where(exchanges.c.id == clean(message)))
        return _message(row) if row else None

    async def next_message(self, conversation: str) -> RunId | None:
        of = exchanges.c.conversation == clean(conversation)
        row = await self._database.row(select(exchanges.c.id).where(of, text(RUNNING)).order_by(*PLACE).limit(1))
        return row["id"] if row else None

    async def turns(self, conversation: str, before: RunId, limit: int) -> list[Turn]:
        def work(connection: Connection) -> list[RowMapping]:
            older = _older(connection, conversation, before)
            return [] if older is None else _page(connection, older.where(exchanges.c.answer != ""), limit)[0]

        rows = await self._database.run(work)
        return [
            Turn(row["query"], row["answer"], tuple(decode_value(row["files"])), row["id"]) for row in reversed(rows)
        ]

    # ------------------------------------------------------------------------------------------------- feedbacks

    async def save_feedback(self, feedback: Feedback) -> None:
        await self._put(feedbacks, asdict(feedback))

    async def remove_feedback(self, message: RunId, end_user: str) -> None:
        key = (feedbacks.c.message == clean(message), feedbacks.c.end_user == clean(end_user))
        await self._execute(delete(feedbacks).where(*key))

    async def feedback_of(self, messages: Sequence[RunId], end_user: str) -> Mapping[RunId, Feedback]:
        ids = [clean(message) for message in messages]
        parts = [ids[start : start + _NAMED] for start in range(0, len(ids), _NAMED)]
        statement = select(feedbacks).where(feedbacks.c.end_user == clean(end_user))

        def work(connection: Connection) -> list[Feedback]:
            pages = (connection.execute(statement.where(feedbacks.c.message.in_(part))).mappings() for part in parts)
            return [Feedback(**row) for page in pages for row in page]

        return {feedback.message: feedback for feedback in await self._database.run(work)}

    async def feedbacks(self, app: str, page: int = 1, limit: int = 20) -> list[Feedback]:
        statement = (
            select(feedbacks)
            .where(feedbacks.c.app == clean(app))
            .order_by(feedbacks.c.created_at.desc(), feedbacks.c.id.desc())
        )
        return [Feedback(**row) for row in await self._database.rows(_numbered(statement, page, limit))]

    # ----------------------------------------------------------------------------------------------- annotations

    async def annotations(
        self, app: str, keyword: str = "", page: int = 1, limit: int = 20
    ) -> tuple[int, list[Annotation]]:
        notes = app_annotations.c
        conditions = [notes.app == clean(app)]
        if keyword:
            texts = (notes.question, notes.answer)
            conditions.append(or_(*(column.icontains(clean(keyword), autoescape=True) for column in texts)))
        newest = select(app_annotations).where(*conditions).order_by(notes.created_at.desc(), notes.id.desc())
        total = select(func.count()).select_from(app_annotations).where(*conditions)

        def work(connection: Connection) -> tuple[int, list[Annotation]]:
            rows = connection.execute(_numbered(newest, page, limit)).mappings()
            return connection.execute(total).scalar_one(), [Annotation(**row) for row in rows]

        return await self._database.run(work)

    async def find_annotation(self, annotation: str) -> Annotation | None:
        row = await self._database.row(select(app_annotations).where(app_annotations.c.id == clean(annotation)))
        return Annotation(**row) if row else None

    async def save_annotation(self, annotation: Annotation) -> None:
        await self._put(app_annotations, asdict(annotation))

    async def remove_annotation(self, annotation: str) -> bool:
        return await self._execute(delete(app_annotations).where(app_annotations.c.id == clean(annotation))) > 0

    async def annotation_reply(self, app: str) -> Mapping[str, Value] | None:
        row = await self._database.row(select(annotation_replies).where(annotation_replies.c.app == clean(app)))
        return decode_value(row["setting"]) if row else None

    async def save_annotation_reply(self, app: str, setting: Mapping[str, Value] | None) -> None:
        if setting is None:
            await self._execute(delete(annotation_replies).where(annotation_replies.c.app == clean(app)))
        else:
            await self._put(annotation_replies, {"app": app, "setting": encode_value(setting)})


# --------------------------------------------------------------------------------------------------------- pages


def _page(connection: Connection, statement: Select[Any], limit: int) -> tuple[list[RowMapping], bool]:
    """(the first rows, whether there are more)."""
    limit = min(max(0, limit), _MOST - 1)
    rows = list(connection.execute(statement.limit(limit + 1)).mappings())
    return rows[:limit], len(rows) > limit


def _numbered(statement: Select[Any], page: int, limit: int) -> Select[Any]:
    """A page, counted from 1."""
    limit = min(max(0, limit), _MOST)
    return statement.limit(limit).offset(min(max(0, page - 1) * limit, _MOST))


def _older(connection: Connection, conversation: str, before: RunId | None) -> Select[Any] | None:
    """The messages of a conversation, newest first: all, or those before one. None if that one is not in it."""
    of = exchanges.c.conversation == clean(conversation)
    older = select(exchanges).where(of).order_by(*(column.desc() for column in PLACE))
    if before is None:
        return older
    start = connection.execute(select(*PLACE).where(of, exchanges.c.id == clean(before))).first()
    return None if start is None else older.where(tuple_(*PLACE) < tuple(start))


def _message(row: RowMapping) -> Message:
    values = decoded(row, "inputs", "files", "answer_files")
    values |= {name: tuple(values[name]) for name in ("files", "answer_files")}
    return Message(**values)
