"""Hermes: a durable messaging engine. What is always true lives here: words, kernel, journal, settings, boot."""

__version__ = "0.1.0"
