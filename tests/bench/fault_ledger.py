"""What a client of a server that is killed knows: what was acknowledged, and what was under way.

    begin(operation) ─▶ in doubt ─▶ acknowledge(operation) ─▶ must be there, for good
                            └─▶ settle(what is stored), after a restart ─▶ whole or absent; anything else is a finding

One ledger per user, whose operations nobody else makes: then every version of the partition is accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stored:
    """A turn as the server returns it."""

    text: str
    version: int = 1
    number: int | None = None
    """The metadata that updates set."""


@dataclass(slots=True)
class Write:
    """A request of one turn or more; `ids` are those of its acknowledgement."""

    request_id: str
    session_id: str
    texts: tuple[str, ...]
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """A change of one turn at one version to a number."""

    memory_id: str
    version: int
    number: int


@dataclass(frozen=True, slots=True)
class Delete:
    """A deletion of one turn."""

    memory_id: str


@dataclass(frozen=True, slots=True)
class Erase:
    """The erasure of everything of the user."""


Operation = Write | Update | Delete | Erase


@dataclass(slots=True)
class Findings:
    """What was promised and does not hold. `lost`: acknowledged and not there. `corrupted`: anything else than whole or
    absent, other bytes, gaps, a store that is not sound."""

    lost: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)


class Ledger:
    """One user's operations."""

    def __init__(self, user_id: str, *, is_alone: bool = True) -> None:
        """`is_alone`: nobody else commits to the partition, not even background work."""
        self.user_id = user_id
        self._is_alone = is_alone
        self.turns: dict[str, Stored] = {}
        """What must be there, by id."""
        self.gone: set[str] = set()
        """Ids that must not be there."""
        self.writes: list[Write] = []
        """Whose requests were acknowledged, or found whole."""
        self.erased_texts: list[str] = []
        """Of the erasures that are known to have been made; in no file any more."""
        self.doubtful: list[Operation] = []
        self.acknowledged = 0
        self.commits = 0
        """Of the partition, as far as they are known to have been made."""

    def begin(self, operation: Operation) -> None:
        """It is about to be sent."""
        self.doubtful.append(operation)

    def acknowledge(self, operation: Operation, ids: Sequence[str] = ()) -> None:
        """The server said that it is done; a write with its ids."""
        self.doubtful.remove(operation)
        self.acknowledged += 1
        self._apply(operation, ids)

    def refuse(self, operation: Operation) -> None:
        """The server said that nothing was done."""
        self.doubtful.remove(operation)

    def settle(self, stored: Mapping[str, Stored], version: int) -> Findings:
        """Compare with what is stored after a restart, and decide what was in doubt by it.

        Args:
            stored: The user's turns by id.
            version: The partition's.
        """
        findings = Findings()
        for operation in self.doubtful:
            self._settle_one(operation, stored, findings)
        self.doubtful.clear()
        for memory_id, expected in self.turns.items():
            actual = stored.get(memory_id)
            if actual is None:
                findings.lost.append(f"{self.user_id}: {memory_id} was acknowledged and is not there")
            elif actual.text != expected.text:
                findings.corrupted.append(f"{self.user_id}: {memory_id} has another text")
            elif actual.version < expected.version:
                findings.lost.append(f"{self.user_id}: the update of {memory_id} to {expected.number} is not there")
            elif actual != expected:
                findings.corrupted.append(f"{self.user_id}: {memory_id} is {actual}, not {expected}")
        for memory_id in stored.keys() - self.turns.keys():
            if memory_id in self.gone:
                findings.lost.append(f"{self.user_id}: the deletion of {memory_id} is not there")
            else:
                findings.corrupted.append(f"{self.user_id}: {memory_id} was written by nobody, or in part")
        if version < self.commits or (self._is_alone and version != self.commits):
            findings.corrupted.append(f"{self.user_id}: {self.commits} commits led to version {version}")
        return findings

    def _settle_one(self, operation: Operation, stored: Mapping[str, Stored], findings: Findings) -> None:
        match operation:
            case Write():
                by_text = {turn.text: memory_id for memory_id, turn in stored.items()}
                ids = [by_text[text] for text in operation.texts if text in by_text]
                if len(ids) == len(operation.texts):
                    self._apply(operation, ids)
                elif ids:
                    findings.corrupted.append(f"{self.user_id}: request {operation.request_id} is there in part")
            case Update():
                actual = stored.get(operation.memory_id)
                if actual is not None and actual.version > operation.version:
                    self._apply(operation, ())
            case Delete():
                if operation.memory_id not in stored:
                    self._apply(operation, ())
            case Erase():
                if not stored:
                    self._apply(operation, ())

    def _apply(self, operation: Operation, ids: Sequence[str]) -> None:
        self.commits += 1
        match operation:
            case Write():
                operation.ids = tuple(ids)
                self.writes.append(operation)
                self.turns |= {
                    memory_id: Stored(text) for memory_id, text in zip(operation.ids, operation.texts, strict=True)
                }
            case Update(memory_id, version, number):
                self.turns[memory_id] = Stored(self.turns[memory_id].text, version + 1, number)
            case Delete(memory_id):
                del self.turns[memory_id]
                self.gone.add(memory_id)
            case Erase():
                self.erased_texts = [turn.text for turn in self.turns.values()]
                self.gone |= self.turns.keys()
                self.turns.clear()
                self.writes.clear()
                self.commits = 0  # who comes back is new
