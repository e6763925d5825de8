"""How much a tenant may send, and what it sent a moment ago: counted in this process, or in Redis for all workers."""
