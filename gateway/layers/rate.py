"""How much a tenant sends: its rate and its channels' rates. Counting is `gateway.limits`."""

from __future__ import annotations

import math

from gateway.limits.base import Ask, Taken
from gateway.problems import Problem
from hermes.domain.message import Message
from hermes.tenancy import Rules


class RateLayer:
    """`rate`: see the module."""

    name = "rate"
    code = "rate_limited"

    def __init__(self, rules: Rules) -> None:
        self._rate = rules.rate_per_s
        self._burst = rules.burst
        self._channels: dict[str, int] = {channel: rate for channel, rate in rules.channel_rates.items() if rate}

    def limits(self, message: Message, ask: Ask) -> bool:
        """Say what limits this message. False: nothing does."""
        ask.rate = self._rate
        ask.burst = self._burst
        ask.channel_rate = self._channels.get(message.cascade[0].channel, 0)
        return bool(ask.rate or ask.channel_rate)

    def refusal(self, taken: Taken) -> Problem:
        """Say which rate is used up, and when to try again."""
        whose = "This tenant" if taken.refused == "tenant" else f"This tenant's channel {taken.refused}"
        return Problem(
            self.code,
            f"{whose} sends at most {taken.limit} messages a second.",
            layer=self.name,
            retry_after_s=taken.wait_s,
            headers=headers(taken, taken.refused or "tenant"),
        )


def headers(taken: Taken, policy: str = "tenant") -> str:
    """Write the header lines of a rate (draft-ietf-httpapi-ratelimit-headers-09, 3 and 4)."""
    wait_s = math.ceil(taken.wait_s) if taken.remaining == 0 else 0
    return (
        f'RateLimit-Policy: "{policy}";q={taken.limit};w=1\r\n'
        f'RateLimit: "{policy}";r={taken.remaining};t={max(wait_s, 1)}\r\n'
    )
