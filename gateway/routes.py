"""What a route is: enough to serve it and to document it, said once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.auth import Access
from gateway.edge import Call, Reply
from gateway.shapes import Nothing

Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        path: as OpenAPI writes it; `{name...}` at the end, or before one last part, takes slashes too.
        answers: status -> the shape of its body; None for no body, a text for a media type other than JSON.
        body: the shape of the request's body; a text for a media type other than JSON.
        query: the shape of the query; `Nothing` refuses any parameter by name, None lets all through.
        codes: problem codes beside those that every route of its kind has (401, 403, 503, ...).
        body_optional: an empty body is fine too.
        shared: other workers ask it too, over the control channel, and are told of this one only.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    tag: str
    answers: Mapping[int, type | str | None]
    body: type | str | None = None
    query: type | None = Nothing
    codes: tuple[str, ...] = ()
    body_optional: bool = False
    shared: bool = False

    @property
    def summary(self) -> str:
        """What it does, in a line: the first of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().split("\n", 1)[0].rstrip(".")
