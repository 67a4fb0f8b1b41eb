"""The synchronous half: all but `runtime` is made from `_async` by `generate_sync.py`."""
