"""The asynchronous half. `generate_sync.py` generates the synchronous one from it."""
