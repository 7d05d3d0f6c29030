"""What of another system's record a turn can hold: the server's bounds, kept before anything is sent, so that one odd value
doesn't end an import in its middle."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from lightmem_client import Scalar

MOST_KEYS = 31
"""Of metadata; one more is the importer's own."""
LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, MOST_BYTES = 64, 1024, 7000
"""Of metadata; the server's total of 8 KiB counts the encoding too."""
LONGEST_NAME_BYTES = 256
MAX_INT64 = 2**63 - 1


def is_unicode(text: str) -> bool:
    """JSON can hold half of a surrogate pair; UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_name(text: str) -> bool:
    """Whether a session, an agent or a speaker can be called so."""
    return is_unicode(text) and text.isprintable() and len(text.encode()) <= LONGEST_NAME_BYTES


def to_name(text: str) -> str:
    """A name as it is, or one made of it that is the same each time and another's for none."""
    if is_name(text):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    kept = "".join(character for character in text if character.isprintable() and is_unicode(character))
    return f"{kept.encode()[: LONGEST_NAME_BYTES - 17].decode(errors='ignore')}-{digest}"


def to_metadata(value: Any) -> tuple[dict[str, Scalar], int]:
    """What the server can filter by, and how many entries are left out."""
    if not isinstance(value, Mapping):
        return {}, int(bool(value))
    fitting: dict[str, Scalar] = {}
    size = 0
    for key, item in value.items():
        longer = size + len(str(key).encode(errors="replace")) + len(json.dumps(item, default=str)) + 8
        if _is_key(key) and _is_scalar(item) and len(fitting) < MOST_KEYS and longer <= MOST_BYTES:
            fitting[key] = item
            size = longer
    return fitting, len(value) - len(fitting)


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and is_name(key) and 1 <= len(key.encode()) <= LONGEST_KEY_BYTES


def _is_scalar(item: Any) -> bool:
    match item:
        case bool():
            return True
        case str():
            return is_unicode(item) and "\0" not in item and len(item.encode()) <= LONGEST_VALUE_BYTES
        case int():
            return -MAX_INT64 <= item <= MAX_INT64
        case float():
            return math.isfinite(item)
        case _:
            return False
