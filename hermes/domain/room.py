"""Who may still take of what all tenants share and is bounded: a carrier's queue, the open messages of a node. Pure.

A tenant that is alone may take nearly all. The last tenth is kept for those who hold little: there a tenant may take
one more only while it holds less than is free. So whoever fills it first leaves half of that tenth to the next, and a
newcomer always finds room.
"""

from __future__ import annotations

from typing import Final

KEPT_BACK: Final = 10  # one in so many places
KEPT_BACK_FROM: Final = 1_000  # places; of fewer none is kept back: who sets a small limit counts on it exactly


def holds_little(own: int, held: int, limit: float) -> bool:
    """Tell whether a tenant holds less of what is shared than is free."""
    return own < limit - held


def has_room(own: int, held: int, limit: float) -> bool:
    """Tell whether a tenant may take one more.

    Args:
        own: what the tenant holds.
        held: what all hold, it included.
        limit: what there is.
    """
    kept_back = limit // KEPT_BACK if limit >= KEPT_BACK_FROM else 0
    return held < limit - kept_back or holds_little(own, held, limit)
