"""When to try a carrier again: behaviour 18 as a function of why, how often and for how long."""

from __future__ import annotations

from typing import Final, Literal

from carriers.smpp import constants as c

Cause = Literal[
    "lost",  # it was bound, or a connection cannot be made: a carrier that is back is found at once
    "unbound",  # it asked us to leave: give it a moment
    "closed_before_bind",  # accepted and closed without a word: our address may not be allowed
    "already_bound",  # the session before this one still lives on its side
    "refused",  # password, system id, our account: an account is locked by those who insist
    "busy",  # the carrier is not well or has no room
]

FAST_S: Final = 0.8  # between tries in the first minute
FAST_FOR_S: Final = 60.0
REFUSED_S: Final = (5.0, 30.0, 60.0)
UNBOUND_S: Final = 1.0
FIRST_SLOW_S: Final = 2.0
ALREADY_BOUND_MAX_S: Final = 3.0
STEADY_S: Final = 5.0  # bound for less is not yet back: a carrier that drops every bind gets no storm

_REFUSED: Final = frozenset(
    {
        c.ESME_RINVPASWD,
        c.ESME_RINVSYSID,
        c.ESME_RBINDFAIL,  # most often what a centre says that does not want to say which of the two
        c.ESME_RINVSYSTYP,
        c.ESME_RINVCMDID,
        c.ESME_RINVCMDLEN,
    }
)
_BUSY: Final = frozenset(
    {c.ESME_RSYSERR, c.ESME_RMSGQFUL, c.ESME_RTHROTTLED, c.ESME_RINVBNDSTS, c.ESME_RUNKNOWNERR, c.ESME_RX_T_APPN}
)


def cause_of(bind_status: int) -> Cause:
    """Tell what a refused bind's status means for the next try. What nobody knows is taken for a refusal."""
    if bind_status == c.ESME_RALYBND:
        return "already_bound"
    return "busy" if bind_status in _BUSY else "refused"


def reconnect_delay(cause: Cause, attempt: int, since_s: float, max_s: float, jitter: float) -> float:
    """Tell in how many seconds to try again.

    Args:
        cause: of the latest failure.
        attempt: failures of this cause in a row before it, 0 for the first.
        since_s: since the carrier was last well, or the first try.
        max_s: `reconnect_max_s`, the longest wait between tries of a carrier that does not answer.
        jitter: 0 <= x < 1, drawn by the caller.
    """
    if cause == "refused":
        return REFUSED_S[min(attempt, len(REFUSED_S) - 1)] * (1 + 0.1 * jitter)
    if cause == "already_bound":
        return min(2.0 ** min(attempt, 30), ALREADY_BOUND_MAX_S) * (1 - 0.25 * jitter)
    if cause in ("closed_before_bind", "busy") or (cause == "unbound" and attempt > 0):
        return float(min(FIRST_SLOW_S * 2.0 ** min(attempt, 30), max(max_s, FIRST_SLOW_S))) * (1 + 0.1 * jitter)
    if attempt == 0:
        return UNBOUND_S if cause == "unbound" else 0.0
    # Once the first minute is over the wait is as long as the time since: it doubles with every try.
    wait = max(FAST_S, min(since_s - FAST_FOR_S, max_s))
    return wait * (1 - 0.25 * jitter)
