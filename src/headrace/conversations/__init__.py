"""Conversations: their messages, and the annotations that answer in a model's place."""
