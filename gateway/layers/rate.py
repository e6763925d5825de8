"""How much a tenant sends: its rate, its channels' rates and its quotas. Counting is `gateway.limits`."""

from __future__ import annotations

import math
from typing import Final

from gateway.limits.base import Ask, QuotaAsk, Taken
from gateway.problems import Problem
from gateway.shapes import FieldError
from hermes.domain.message import Message
from hermes.domain.quotas import QUOTAS, period_of
from hermes.domain.usage import MICROS
from hermes.tenancy import Rules


class RateLayer:
    """`rate`: see the module."""

    name = "rate"
    code = "rate_limited"

    def __init__(self, rules: Rules) -> None:
        self._rate = rules.rate_per_s
        self._burst = rules.burst
        self._channels: dict[str, int] = {channel: rate for channel, rate in rules.channel_rates.items() if rate}
        quotas = [getattr(rules.quotas, name) for name in QUOTAS]
        self._quotas = tuple(
            round(limit * MICROS) if name.startswith("spend") else limit
            for name, limit in zip(QUOTAS, quotas, strict=True)
        )
        self.has_quotas = any(quotas)
        self.caps_spending = bool(rules.quotas.spend_per_day or rules.quotas.spend_per_month)

    def limits(self, message: Message, ask: Ask) -> bool:
        """Say what limits this message. False: nothing does."""
        ask.rate = self._rate
        ask.burst = self._burst
        ask.channel_rate = self._channels.get(message.cascade[0].channel, 0)
        if self.has_quotas:
            adds = (1, message.segments or 0, 0)
            ask.quota = QuotaAsk(message.tenant, message.mode, self._quotas, message.created_at.date(), adds)
        return bool(ask.rate or ask.channel_rate or ask.quota is not None)

    def refusal(self, taken: Taken, message: Message) -> Problem:
        """Say which rate or quota is used up, and when to try again."""
        if taken.refused in QUOTAS:
            return _over_quota(taken, taken.refused, message)
        whose = "This tenant" if taken.refused == "tenant" else f"This tenant's channel {taken.refused}"
        return Problem(
            self.code,
            f"{whose} sends at most {taken.limit} messages a second.",
            layer=self.name,
            retry_after_s=taken.wait_s,
            headers=headers(taken),
        )


_UNITS: Final = {"messages": "messages", "segments": "SMS parts", "spend": "of the operator's currency"}


def _over_quota(taken: Taken, quota: str, message: Message) -> Problem:
    kind, _, period = quota.split("_")
    begins, ends = period_of(quota, message.created_at.date())
    left_s = max((ends - message.created_at).total_seconds(), 0.0)
    limit = f"{taken.limit / MICROS:g}" if kind == "spend" else str(taken.limit)
    why = f"at most {limit} {_UNITS[kind]} go in a {period} (UTC); the next one begins at {ends:%Y-%m-%dT%H:%M:%SZ}"
    return Problem(
        "quota_exceeded",
        f"{quota}: {why}",
        errors=[FieldError(f"quotas.{quota}", why)],
        layer=RateLayer.name,
        retry_after_s=left_s,
        headers=_policy(taken, int((ends - begins).total_seconds()), left_s),
    )


def headers(taken: Taken) -> str:
    """Write the header lines of the narrowest rate that applies."""
    return _policy(taken, 1, taken.wait_s if taken.remaining == 0 else 0.0)


def _policy(taken: Taken, window_s: int, wait_s: float) -> str:
    """Write what is left of a limit (draft-ietf-httpapi-ratelimit-headers-09, 3 and 4); which one, the detail says."""
    return (
        f'RateLimit-Policy: "tenant";q={taken.limit};w={window_s}\r\n'
        f'RateLimit: "tenant";r={taken.remaining};t={max(math.ceil(wait_s), 1)}\r\n'
    )
