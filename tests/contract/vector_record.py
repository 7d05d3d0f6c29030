"""Records the contract vectors: plays what vector_cases.py asks to a server, and writes down what is answered.

`make vectors` writes them, after a change of the API that means to change an answer; a test records them again and fails when
the committed ones say something else. What differs from one playing to the next becomes a placeholder; see vectors/README.md.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.contract.vector_cases import files
from tests.contract.vector_play import FOLDER, FORMAT, Json, Names, Outcome, Player, check, describe
from tests.contract.vector_requests import File, Step
from tests.server_process import ServerProcess

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
RECENT = timedelta(days=2)
"""A time so near to now is of the server's clock, not of the vector."""

LINE_LENGTH = 128

CAPTURED_FIELDS = frozenset({"secret", "keyId", "nextPageToken"})
EXACT_DOUBLES = frozenset({"doubleValue", "confidence"})
"""Other doubles are a model's, and differ between processors in the last digits."""

MAPS = frozenset({"metadata"})
"""Objects whose members come in any order."""

VARYING: dict[str, str] = {
    # of the machine, of the clock, of models, or of what else is on the server
    "candidates": "list",
    "doneCount": "number",
    "donePages": "number",
    "elapsed": "duration",
    "explanation": "string",
    "judgedQuery": "string",
    "keptCount": "number",
    "margin": "number",
    "models": "list",
    "path": "string",
    "pendingJobCount": "number",
    "queryViews": "list",
    "rejected": "list",
    "remaining": "duration",
    "removedCount": "number",
    "residentLimitBytes": "number",
    "residentPartitionCount": "number",
    "residentSizeBytes": "number",
    "restoredCount": "number",
    "selectorStop": "string",
    "serverVersion": "string",
    "sizeBytes": "number",
    "stages": "list",
    "storeSizeBytes": "number",
    "totalCount": "number",
    "totalPages": "number",
    "uptime": "duration",
}
"""Fields whose values are not judged, and what they must be."""

LAST_ONLY = frozenset({"lightmem.v1.AdminService/Consolidate", "lightmem.v1.AdminService/Backup"})
"""Streams of which only the last message is the same every time."""


class Recorder:
    """Turns what one vector's steps gave into what is expected of every playing."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[str, str] = {names.fresh(name): "" for name in ("ann", "bob", "tenant")}
        self._counts: dict[str, int] = {}

    def expect(self, step: Step, outcome: Outcome) -> Step:
        """The step with what is expected."""
        if "responses" in step:  # the case says itself what it expects, since the answer is another one each time
            check(step, outcome, self._names)
            return step
        expected = dict(step)
        if outcome.error is not None:
            expected["error"] = describe(outcome.error)
        if step["call"] in LAST_ONLY and outcome.responses:
            expected["last"] = self._generalise(outcome.responses[-1], "")
        elif step["call"].endswith("/ListKeys"):  # other playings have made keys too
            is_first = "pageToken" not in step["requests"][0]
            expected["responses"] = [self._generalise_keys(response, is_first) for response in outcome.responses]
        else:
            expected["responses"] = [self._generalise(response, "") for response in outcome.responses]
        return expected

    def _generalise_keys(self, response: Json, is_first: bool) -> Json:
        keys: Json = [{"$any": "object"}] * len(response["keys"])
        if not is_first:
            return {"keys": keys}
        # A name of its own: now and then the token is the id of the key that was just made, which has another.
        token = response["nextPageToken"]
        return {"keys": keys, "nextPageToken": self._capture("nextPageToken", token) if token else ""}

    def _generalise(self, value: Json, key: str) -> Json:
        if key in VARYING:
            return {"$any": VARYING[key]}
        match value:
            case dict():
                items = sorted(value.items()) if key in MAPS else value.items()
                return {name: self._generalise(item, name) for name, item in items}
            case list():
                return [self._generalise(item, key) for item in value]
            case str():
                return self._generalise_text(value, key)
            case float() if key not in EXACT_DOUBLES:
                return {"$any": "number"}
            case _:
                return value

    def _generalise_text(self, value: str, key: str) -> Json:
        if value in self._known and not self._known[value]:
            return {"$fresh": value.removesuffix(f"-{self._names.run}")}
        if value and (key in CAPTURED_FIELDS or ID.fullmatch(value)):
            return self._name(key if key in CAPTURED_FIELDS else "id", value)
        if TIME.match(value) and abs(datetime.fromisoformat(value) - datetime.now(UTC)) < RECENT:
            return {"$any": "time"}
        return value

    def _name(self, kind: str, value: str) -> Json:
        """A capture the first time, a reference afterwards."""
        return {"$ref": self._known[value]} if value in self._known else self._capture(kind, value)

    def _capture(self, kind: str, value: str) -> Json:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._known[value] = name = f"{kind}{self._counts[kind]}"
        self._names.captured[name] = value
        return {"$capture": name}


def record(player: Player, file: File) -> str:
    """The text of a file of vectors."""
    vectors = []
    for name, steps in file.vectors.items():
        names = Names()
        recorder = Recorder(names)
        vectors.append({"name": name, "steps": [recorder.expect(step, player.send(step, names)) for step in steps]})
    return layout({"format": FORMAT, "title": file.title, "vectors": vectors}) + "\n"


def layout(value: Json, indent: str = "") -> str:
    """JSON with whatever fits into a line on one line, so that a change of an answer can be read."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= LINE_LENGTH or not value or not isinstance(value, dict | list):
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {layout(item, inner)}" for key, item in value.items()]
    else:
        items = [layout(item, inner) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{closing}"


def main() -> int:
    """Write every file anew."""
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data") as server:
        player = Player(server.address, server.key)
        for name, file in files().items():
            path = FOLDER / f"{name}.json"
            path.write_text(record(player, file), "utf-8")
            print(f"wrote {path.name}: {len(file.vectors)} vectors", file=sys.stderr)
        player.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
