"""Throw-away Debian systems with a real systemd, and the operator's story told on them.

    python -m tests.appliance story               # the whole story on both Debians, side by side
    python -m tests.appliance build               # only the base roots, into the cache
    python -m tests.appliance shell bookworm      # look around in a booted system

A `Lab` holds booted `Node`s and their network; the roots they are copied from are built once (`roots`).
"""
