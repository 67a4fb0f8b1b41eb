"""The asynchronous half. The other one is made from it by `generate_sync.py`."""
