"""What models are told in ReAct format, and what they get of a tool's answer. Markers and JSON keys are Dify's, because
models are tuned to them."""

from __future__ import annotations

REACT_NODE = """\
Help the person you talk to as well as you can, and answer honestly.

{instruction}

These tools are available, described as JSON:

{tools}

To use a tool, write one JSON object with the keys "action" (the tool's name, one of: {names}) and "action_input" (its \
arguments, as its parameters describe them). Write one action at a time, for example:

{"action": "TOOL_NAME", "action_input": {"PARAMETER": "VALUE"}}

Keep to this format:

Question: what you are asked
Thought: what you know, and what is still missing
Action: the JSON object
Observation: what the tool answered
... (Thought, Action and Observation may be repeated)
Thought: I know the answer
FinalAnswer: the answer to the question

Begin with "Thought:". When no tool is needed, continue with "FinalAnswer:" at once.
"""

REACT_CHAT = """\
Help the person you talk to as well as you can, and answer honestly.

{instruction}

These tools are available, described as JSON:

{tools}

To use a tool, write one JSON object in a code fence, with the keys "action" (one of: {names}, "Final Answer") and \
"action_input" (the tool's arguments, as its parameters describe them). Write one action at a time:

```json
{"action": "TOOL_NAME", "action_input": {"PARAMETER": "VALUE"}}
```

Keep to this format:

Question: what you are asked
Thought: what you know, and what is still missing
Action:
```json
the JSON object
```
Observation: what the tool answered
... (Thought, Action and Observation may be repeated)
Thought: I know the answer
Action:
```json
{"action": "Final Answer", "action_input": "the answer to the question"}
```

Begin with "Thought:". Always write a valid JSON object with one action.
"""

STOP_WORD = "Observation"
CONTINUE = "continue"
CONTEXT = "Use this context where it helps:\n\n<context>\n{context}\n</context>"

TOOL_JSON = "tool response: {json}."
LINK = "The result is at this link: {url}. Tell the user to open it."
IMAGE = "An image was created and is shown to the user already: only tell the user to look at it."
FILE = "Generated file {name}."
UNKNOWN_TOOL = "there is not a tool named {name}"
TOOL_FAILED = "tool invoke error: {error}"
BAD_ARGUMENTS = "tool parameters validation error: {error}, please check your tool parameters"
LIMIT_REACHED = "The maximum iteration limit is reached, {name} cannot be called."
LIMIT_ANSWER = "The maximum number of iterations ({limit}) is reached without an answer."
