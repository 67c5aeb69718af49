"""Text as roff, the language of man pages. Pure."""

import re
from collections.abc import Iterable
from textwrap import dedent


def plain(text: str) -> str:
    """As it stands: no character of it is taken for an instruction, and a hyphen stays one that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return re.sub(r"^\.", r"\\&.", text, flags=re.M)


def prose(text: str) -> str:
    """A filled paragraph. `code` becomes bold."""
    parts = " ".join(text.split()).split("`")
    return "".join(bold(part) if at % 2 else plain(part) for at, part in enumerate(parts))


def paragraphs(text: str) -> str:
    """Filled, but for those that are indented: their lines mean something."""
    found = (part for part in re.split(r"\n\s*\n", text.strip("\n")) if part.strip())
    return "\n.PP\n".join(laid_out(dedent(part)) if part.startswith(" ") else prose(part) for part in found)


def bold(text: str) -> str:
    return f"\\fB{plain(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{plain(text)}\\fR"


def laid_out(text: str) -> str:
    """In its own lines."""
    return "\n".join([".nf", plain(text), ".fi"])


def items(pairs: Iterable[tuple[str, str]]) -> str:
    """Terms (roff) with what they mean (roff) behind them."""
    return "\n".join(f".TP\n{term}\n{meaning or chr(92) + '&'}" for term, meaning in pairs)
