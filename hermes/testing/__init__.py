"""The fakes Hermes ships: own the clock, be the other end, stand in for a carrier."""

from hermes.testing.clock import ManualClock
from hermes.testing.probe import Do, ProbeActor, start_probe

__all__ = ["Do", "ManualClock", "ProbeActor", "start_probe"]
