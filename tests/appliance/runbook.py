"""docs/operations.md as an operator uses it: its shell blocks are run as they stand there."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def block(heading: str, language: str = "sh", number: int = 0) -> str:
    """The code block of a section, counted from 0. `hub.example` is the hub's name in the page."""
    text = PAGE.read_text("utf-8")
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", re.sub(r"(?m)^(?=# )", " ", section), maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return str(blocks[number]).replace("hub.example", "hub")
