"""SMPP 3.4, sans-IO: bytes and events in, bytes and events out."""
