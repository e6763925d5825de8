"""The cast: one actor a file, in the order a message meets them. `tree.py` shows how they hang together."""
