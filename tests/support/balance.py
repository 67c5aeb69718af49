"""The balance of an outbox: what it took is what it let go and what is still there."""

from sbc_daemon.outbox import Figures, Outbox


async def assert_balanced(outbox: Outbox) -> Figures:
    """What waits is counted in the outbox, and the ledger knows every end: both must say the same."""
    figures = await outbox.figures()
    assert figures.ledger.waiting == figures.waiting, figures
    assert min(figures.ledger.ends.values()) >= 0
    return figures
