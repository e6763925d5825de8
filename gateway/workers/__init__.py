"""How several workers of one database answer as one.

Each worker serves the others over a control channel (`control.py`): the same handlers as everybody's, which then answer
for their own process only. Whoever is asked by an operator or a monitor asks the others (`peers.py`) and joins what
they say; the joining is pure: `actors.py`, `figures.py`, and `hermes.samples` for metrics.
"""
