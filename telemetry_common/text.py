"""Figures as people read them. Pure."""

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def duration(seconds: float) -> str:
    """As Go prints a duration rounded to whole seconds: `0s`, `5m0s`, `1h0m1s`, `26h3m0s`. Negative counts as 0."""
    whole = max(0, int(seconds + 0.5))
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{secs}s"
    if minutes:
        return f"{minutes}m{secs}s"
    return f"{secs}s"


def size(count: float) -> str:
    """Bytes in binary units: `512 B`, `1.5 GiB`."""
    value = float(count)
    for unit in _BINARY:
        if value < 1024 or unit == _BINARY[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable: the last unit always returns")


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """`text` with everything that could forge a line or move a terminal's cursor escaped, at most 500 characters."""
    shown = text[:500]
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
