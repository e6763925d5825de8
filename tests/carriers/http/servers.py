"""Providers on loopback, those Hermes ships and what only our own tests ask of them."""

from __future__ import annotations

from collections.abc import Awaitable

from carriers.base import SendError
from hermes.testing.servers import (
    Answer,
    Asked,
    Provider,
    Talk,
    break_off,
    close_after_request,
    free_port,
    hang,
    provider,
    raw_server,
    read_request,
    reset_after_request,
    talk_garbage,
)

__all__ = [
    "Answer",
    "Asked",
    "Provider",
    "Talk",
    "break_off",
    "close_after_request",
    "failure",
    "free_port",
    "hang",
    "provider",
    "raw_server",
    "read_request",
    "reset_after_request",
    "talk_garbage",
]


async def failure(call: Awaitable[object]) -> SendError:
    """Give the SendError a call must raise; nothing of what went wrong below may hang on it."""
    try:
        await call
    except SendError as error:
        assert error.__cause__ is None
        assert error.__context__ is None
        return error
    raise AssertionError("the call did not fail")
