"""The HTTP edge: what customers, providers and operators ask, and what they are told. Start at `app.py`."""
