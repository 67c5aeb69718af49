"""Dead letters that are what the test says, where a daemon would have an outbox."""

from collections.abc import Mapping, Sequence

from sbc_daemon.outbox import DeadLetter, OutboxFull


class FixedLetters:
    """`broken`: its disk lets nothing be done. `unreadable`: numbers of letters that cannot be sent again."""

    def __init__(self, letters: Sequence[DeadLetter] = ()) -> None:
        self.letters = list(letters)
        self.broken = False
        self.unreadable: set[int] = set()
        self.done: list[tuple[str, Sequence[int] | None, int]] = []

    async def all(self) -> Sequence[DeadLetter]:
        if self.broken:
            raise OutboxFull("cannot open the outbox")
        return self.letters

    async def retry(self, letter_ids: Sequence[int] | None, uid: int) -> Mapping[int, str]:
        self.done.append(("retry", letter_ids, uid))
        return {one.letter_id: one.job_id for one in self._taken(letter_ids, self.unreadable)}

    async def delete(self, letter_ids: Sequence[int] | None, uid: int) -> Sequence[int]:
        self.done.append(("delete", letter_ids, uid))
        return [one.letter_id for one in self._taken(letter_ids, set())]

    def _taken(self, letter_ids: Sequence[int] | None, stay: set[int]) -> list[DeadLetter]:
        if self.broken:
            raise OutboxFull("cannot write the outbox")
        wanted = {one.letter_id for one in self.letters} if letter_ids is None else set(letter_ids)
        taken = [one for one in self.letters if one.letter_id in wanted - stay]
        self.letters = [one for one in self.letters if one not in taken]
        return taken
