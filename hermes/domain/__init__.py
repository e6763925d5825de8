"""The words of messaging, and what a cascade may do. Standard library only, no I/O."""
