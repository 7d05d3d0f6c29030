"""What is only said to be polite: greetings, thanks and congratulations tell of nobody."""

from __future__ import annotations

import re

from lightmem_server.pipeline.consolidation.grounds import Grounds

_COURTESY = re.compile(
    r"^\W*(?:(?:oh|wow|aw+|hey|hi|hello|ah|ha|haha|well|yes|yeah)\W+)*(?:thanks?\b|thank you|congrat\w*"
    r"|good (?:luck|night|morning|evening|afternoon|to know)|bye\b"
    r"|see you|take care|welcome\b|you(?:'|\u2019)re welcome|no problem|happy birthday|sorry\b"
    r"|how are you|nice to|that(?:'|\u2019)s (?:great|awesome|amazing|wonderful|nice|so)|sounds (?:great|good|fun|like))",
    re.IGNORECASE,
)


def is_courtesy(grounds: Grounds) -> bool:
    """The sentence only greets, thanks or congratulates."""
    return _COURTESY.search(grounds.sentence.text) is not None and not _tells_more(grounds)


def is_only_courtesy(sentence: str) -> bool:
    """Whether a sentence only greets, thanks or congratulates, whatever is claimed."""
    return _COURTESY.search(sentence) is not None and _beyond_courtesy(sentence) is None


def _tells_more(grounds: Grounds) -> bool:
    """Whether a sentence that begins with a courtesy goes on: "Thanks, I moved to Lisbon"."""
    begins, words = _beyond_courtesy(grounds.sentence.text), grounds.sentence.words
    return begins is not None and bool(words) and words[grounds.first].start >= begins


def _beyond_courtesy(sentence: str) -> int | None:
    """Where a sentence that begins with a courtesy goes on about its speaker; None: it doesn't."""
    after = _COURTESY.sub("", sentence, count=1)
    return len(sentence) - len(after) if re.search(r"\b(?:I|we|my)\b", after) else None
