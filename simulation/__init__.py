"""The simulated world: the real code of both daemons in one process, in virtual time, among everything that can break.

A run is a seed. `python -m simulation storm:17` replays it to the byte; docs/reliability.md says what it proves.
"""
