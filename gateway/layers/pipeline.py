"""The nine validation layers, in order, and how a message passes them.

1. auth            who asks, from where, with which rights           gateway/auth.py, for every request
2. tenant          it is active                                      gateway/auth.py, for every request
3. schema          the body has the right form                       gateway/decode.py, gateway/submission.py
4. content         what it says                                      content.py
5. compliance      where, when and as whom it is sent                compliance.py
6. do_not_contact  whether the recipient wants it                    do_not_contact.py
7. rate            how much the tenant sends                         rate.py
8. dedup           whether it was sent a moment ago                  dedup.py
9. enrich          what Hermes adds                                  enrich.py

The first layer that refuses ends it; `validate` asks them all. Layers 4 to 6 and 9 need nothing but the message and the
tenant's settings. Layers 7 and 8 remember: they come after a repeat with the same Idempotency-Key was told apart.
Whether a carrier serves each step is asked last, by the tenant's actor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.layers.base import Layer, refusals
from gateway.layers.compliance import ComplianceLayer
from gateway.layers.content import ContentLayer
from gateway.layers.dedup import DedupLayer
from gateway.layers.do_not_contact import DoNotContactLayer
from gateway.layers.enrich import EnrichLayer
from gateway.layers.rate import RateLayer
from gateway.limits.base import Ask, Taken
from gateway.problems import Problem
from gateway.shapes import Refusal
from hermes.domain.message import Message
from hermes.tenancy import Quotas, Rules


class Pipeline:
    """One tenant's layers, as its settings have them.

    Attributes:
        remembers: whether a layer with a memory may have to be asked (`limits`).
    """

    __slots__ = ("_dedup", "_layers", "_rate", "caps_spending", "default_country", "remembers")

    def __init__(
        self,
        rules: Rules,
        blocks: Callable[[str, str, str, str], bool],
        consented: Callable[[str, str, str, str], bool],
    ) -> None:
        settings = rules.layers
        layers: list[Layer] = []
        if settings.content.enabled:
            layers.append(ContentLayer(settings.content))
        if settings.compliance.enabled:
            compliance = ComplianceLayer(settings.compliance, consented)
            if compliance.asks:
                layers.append(compliance)
        if settings.do_not_contact.enabled:
            layers.append(DoNotContactLayer(blocks))
        if settings.enrich.enabled:
            layers.append(EnrichLayer())
        self._layers: Sequence[Layer] = tuple(layers)
        limited = rules.rate_per_s or rules.channel_rates or rules.quotas != Quotas()
        self._rate = RateLayer(rules) if settings.rate.enabled and limited else None
        self.caps_spending = self._rate is not None and self._rate.caps_spending
        self._dedup = DedupLayer(settings.dedup) if settings.dedup.enabled else None
        self.remembers = self._rate is not None or self._dedup is not None
        self.default_country = settings.enrich.default_country if settings.enrich.enabled else None

    def run(self, message: Message) -> None:
        """Let a message pass.

        Raises:
            Problem: of the first layer that refuses, with everything it found.
        """
        for layer in self._layers:
            errors = layer.check(message)
            if errors:
                first = errors[0]
                raise Problem(layer.code, f"{first.field}: {first.why}", errors=errors, layer=layer.name)

    def limits(self, message: Message) -> Ask | None:
        """Say what the layers with a memory must be asked of this message; None: nothing."""
        if not self.remembers:
            return None
        ask = Ask(f"{message.tenant}:{message.mode}", 0, 0, message.cascade[0].channel, 0)
        limited = self._rate is not None and self._rate.limits(message, ask)
        if self._dedup is not None:
            self._dedup.limits(message, ask)
            limited = True
        return ask if limited else None

    def refusal(self, taken: Taken, message: Message) -> Problem:
        """Make the refusal of what the limits refused."""
        if taken.refused == "duplicate":
            assert self._dedup is not None
            return self._dedup.refusal()
        assert self._rate is not None
        return self._rate.refusal(taken, message)

    def ask(self, message: Message) -> list[Refusal]:
        """Say what every layer without a memory would refuse."""
        return [refusal for layer in self._layers for refusal in refusals(layer, layer.check(message))]
