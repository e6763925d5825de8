"""Carriers reached over a provider's HTTP API."""
