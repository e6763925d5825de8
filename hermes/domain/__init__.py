"""The words of messaging: addresses, messages, events and what a cascade may do. Standard library only, no I/O."""
