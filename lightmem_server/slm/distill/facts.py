"""Facts beside the turns of the chats: what consolidation might keep of them, and what is asked that one of them answers.

facts/*.txt has those of the chat of that name, in the words of consolidation, each behind the turns that it rests on and before
the questions that it answers alone:

    = 1.1 | Ana lives in Leuven
    Where does Ana live?                              a new one: the fact answers it, and its turns
    Which city did Ana settle in?                     one of the chat's own: the fact answers it too

They were written by a large language model, as the chats were. What says the same once more may not be listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.chats import FOLDER as CHATS
from lightmem_server.slm.distill.chats import ChatTurns, lines_of, parse_chat, parse_turns, read_texts
from lightmem_server.slm.distill.sets import Asked

SET_NAME = "facts"
"""Of the questions that a fact answers."""
BESIDE = "beside_facts"
"""Of a chat's other questions, which turns answer, or nothing: there facts are only in the way."""
FOLDER = "facts"
FACT = "= "


@dataclass(frozen=True, slots=True)
class ChatFact:
    """A fact, the positions of the turns that it rests on, and what it answers."""

    text: str
    turns: frozenset[int]
    questions: tuple[str, ...]


def read_with_facts() -> Iterator[Asked]:
    """What is asked about every chat that has facts, over its turns and them.

    Raises:
        InvalidInputError: A file is not of this form.
    """
    chats = dict(read_texts(CHATS))
    for name, text in read_texts(FOLDER):
        if name not in chats:
            raise InvalidInputError("facts", f"{name} is no chat")
        yield from ask_with_facts(name, chats[name], text)


def ask_with_facts(name: str, chat: str, text: str) -> Iterator[Asked]:
    """What is asked about one chat with its facts: first what they answer, then the rest.

    Raises:
        InvalidInputError: A text is not of its form.
    """
    turns = parse_turns(name, chat)
    facts = parse_facts(turns, text)
    own = {one.question: one for one in parse_chat(name, chat)}
    answered = dict.fromkeys(question for fact in facts for question in fact.questions)
    first, passages = next(iter(own.values())), (*turns.passages, *(fact.text for fact in facts))
    of_chat = replace(first, passages=passages)
    for number, question in enumerate(answered, start=1):
        answering = [place for place, fact in enumerate(facts) if question in fact.questions]
        said = (
            own[question].positives if question in own else frozenset[int]().union(*(facts[n].turns for n in answering))
        )
        yield replace(
            of_chat,
            set_name=SET_NAME,
            question_id=f"{name}/fact/{number}",
            question=question,
            positives=said.union(len(turns.passages) + place for place in answering),
        )
    for question, one in own.items():
        if question not in answered:
            rests = [place for place, fact in enumerate(facts) if fact.turns & one.positives]
            yield replace(
                one,
                set_name=BESIDE,
                passages=passages,
                uncertain=frozenset(len(turns.passages) + place for place in rests),
            )


def parse_facts(turns: ChatTurns, text: str) -> Sequence[ChatFact]:
    """The facts of a chat. Raises InvalidInputError where the text is not of this form."""
    facts: list[ChatFact] = []
    for line in lines_of(text):
        if line.startswith(FACT):
            places, _, said = line.removeprefix(FACT).partition(" | ")
            facts.append(ChatFact(said, turns.find(places), ()))
        elif facts and line.endswith("?"):
            facts[-1] = replace(facts[-1], questions=(*facts[-1].questions, line))
        else:
            raise InvalidInputError("facts", f"{turns.name} has neither a fact nor a question in {line!r}")
    return facts
