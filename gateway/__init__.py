"""The HTTP edge: what customers, providers and operators can ask, and the answers they get. Start at `app.py`."""
