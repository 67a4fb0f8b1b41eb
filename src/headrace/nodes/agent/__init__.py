"""Agents: a model calls tools until it has an answer.

node          the agent node, with the strategies of Dify's plugins
chat          what an agent-chat app does
loop          rounds of the model's answers and the calls of tools, each a step in the journal
strategies    how the model is asked, and how its answers are read: tool calls of its own, or ReAct
toolbox       the tools of an agent, and what becomes of their answers
"""
