"""The durable record: what was accepted and what happened to it, append-only, in PostgreSQL."""
