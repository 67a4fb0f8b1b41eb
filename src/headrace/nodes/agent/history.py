"""What an agent of an agent-chat app remembers: earlier messages, with the calls of tools that led to their answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from headrace.node import Context
from headrace.nodes._memory import MemoryConfig, messages_from, recall, room_for
from headrace.nodes._model_call import ModelConfig
from headrace.nodes.agent.records import Round, round_of
from headrace.nodes.agent.strategies import Strategy
from headrace.ports.services import Message, Turn, estimate_tokens

MOST_READ = 50  # runs whose calls are repeated: their journals are read one after the other


async def remember(
    ctx: Context, model: ModelConfig, prompt: str, strategy: type[Strategy], *, vision: bool, detail: str
) -> list[Message]:
    """The earlier messages of the conversation. Where the calls of tools do not fit into the model's context window,
    only the answer is repeated: in the oldest messages first, and in those before the last `MOST_READ`."""
    turns = await recall(ctx, MemoryConfig(), model, prompt)
    exchanges = [messages_from([turn], vision=vision, detail=detail) for turn in turns]
    room = room_for(ctx, model, prompt) - sum(map(_tokens, exchanges))
    for exchange, turn in islice(zip(reversed(exchanges), reversed(turns), strict=True), MOST_READ):
        if room <= 0:
            break
        rounds = await _rounds(ctx, turn)
        if not any(round_["calls"] for round_ in rounds):
            continue
        past_rounds = strategy.replay(rounds)
        size = _tokens(past_rounds)
        if size <= room:
            room -= size
            exchange[-1:] = past_rounds
    return [message for exchange in exchanges for message in exchange]


async def _rounds(ctx: Context, turn: Turn) -> Sequence[Round]:
    """The rounds of an earlier message that came to its end. What a provider adds to calls is left out: it counts for
    the message itself only, and the model may be another one now."""
    steps = await ctx.resources.history.steps(turn.run) if turn.run else ()
    rounds = [round_of(step) for step in steps if step.parent_key is None and step.ended]
    if not rounds or not rounds[-1]["final"]:
        return ()
    for round_ in rounds:
        round_["calls"] = [
            {"id": call["id"], "name": call["name"], "arguments": call["arguments"]} for call in round_["calls"]
        ]
    return rounds


def _tokens(messages: Sequence[Message]) -> int:
    """Roughly; images count where turns are recalled."""
    return sum(
        estimate_tokens(message.text) + sum(estimate_tokens(call.arguments) for call in message.tool_calls)
        for message in messages
    )
