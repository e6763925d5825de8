"""The root of every error Hermes raises on purpose, so that one `except` can tell ours from a bug.

Each package derives its own errors from `HermesError` beside the code that raises them:
`carriers.base.SendError`, `hermes.journal.base.JournalError`, `gateway.problems.Problem`.
"""

from __future__ import annotations


class HermesError(Exception):
    """Something Hermes expected might go wrong did. The text is for people and holds no secret."""


class SettingsError(HermesError):
    """The settings cannot be used: wrong key, wrong value, unreadable file. Says which and why."""
