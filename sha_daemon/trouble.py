"""What the database has against being written to, as all writers of a kind of job know it; said on the edges."""

import logging

from telemetry_common.logs import fields

log = logging.getLogger(__name__)


class Trouble:
    """False while there is none. `text` is for the journal."""

    def __init__(self) -> None:
        self.text = ""

    def __bool__(self) -> bool:
        return bool(self.text)

    def met(self, text: str) -> None:
        """A transaction failed for a reason that concerns every other one as well."""
        if not self.text:
            log.error(fields("database takes no updates; they are answered 503", reason=text))
        self.text = text

    def over(self) -> None:
        """A transaction was committed."""
        if self.text:
            log.warning("database takes updates again")
        self.text = ""
