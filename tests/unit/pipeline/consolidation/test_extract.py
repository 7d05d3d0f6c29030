import numpy as np
import pytest

from lightmem_server.pipeline.consolidation.episodes import segment
from lightmem_server.pipeline.consolidation.extract import MOST_OF_TURN, extract, represent
from lightmem_server.pipeline.consolidation.facts import find_facts
from lightmem_server.pipeline.consolidation.model import Reason
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from tests.unit.pipeline.consolidation.conversation import facts, turns, window

PROMPT = FactsPrompt.load("facts-2")


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I live in New York now.", "Ana lives in New York"),
        ("I've just moved to Lisbon with Ben!", "Ana lives in Lisbon"),
        ("I'm from Porto.", "Ana is from Porto"),
        ("I work as a night nurse at a clinic.", "Ana works as night nurse"),
        ("I work for Blue Harbour.", "Ana works at Blue Harbour"),
        ("I'm allergic to walnuts, sadly.", "Ana is allergic to walnuts"),
        ("I love slow bike rides and rain.", "Ana likes slow bike rides and rain"),
        ("I love thrillers and crime stories, they keep me awake.", "Ana likes thrillers and crime stories"),
        ("I love seeing my pupils grow.", "Ana likes seeing their pupils grow"),
        ("I just like being outdoors.", "Ana likes being outdoors"),
        ("I love the smell of fresh bread!", "Ana likes the smell of fresh bread"),
        ("I love the Alps.", "Ana likes the Alps"),
        ("I love running in the hills - trails, mostly.", "Ana likes running in the hills"),
        ("I love sharing what I know.", "Ana likes sharing what they know"),
        ("I like films that make me think.", "Ana likes films that make them think"),
        ("I like plums too.", "Ana likes plums"),
        ("You know I love jazz.", "Ana likes jazz"),
        ("My favourite dish is lasagne.", "Ana likes lasagne"),
        ("I have two dogs, by the way.", "Ana has two dogs"),
        ("I adopted a small grey cat.", "Ana has a small grey cat"),
        ("I have three kids.", "Ana has three kids"),
        ("I speak Dutch.", "Ana speaks Dutch"),
        ("I'm 31 years old.", "Ana's age: 31 years old"),
        ("My name is Ana Reis.", "Ana's name is Ana Reis"),
        ("My sister Mia called.", "Ana has a sister, Mia"),
        ("I met my friend Ravi.", "Ana has a friend, Ravi"),
        ("I'm a nurse, so I see a lot.", "Ana works as nurse"),
        ("I started as a physics teacher in May.", "Ana works as physics teacher"),
        ("I finally got a job as a baker!", "Ana works as baker"),
        ("My job as a graphic designer is fun.", "Ana works as graphic designer"),
        ("I left the bank, and I started at the animal shelter.", "Ana works at the animal shelter"),
        ("I got a new job at a law firm.", "Ana works at a law firm"),
        ("I'm really into model trains.", "Ana likes model trains"),
        ("I'm a big fan of old jazz.", "Ana likes old jazz"),
        ("I'm passionate about bees, as you know.", "Ana likes bees"),
        ("I hate coriander.", "Ana dislikes coriander"),
        ("And I can't stand olives, if that helps.", "Ana dislikes olives"),
        ("I can't stand loud music.", "Ana dislikes loud music"),
        ("I don't like flying, but I do it.", "Ana dislikes flying"),
        ("I'm learning Polish now.", "Ana studies Polish"),
        ("My sister called.", "Ana has a sister"),
        ("My kids are at the beach.", "Ana has kids"),
        ("I walk my dog each morning.", "Ana has a dog"),
        ("If it rains I'd rather leave my dogs at home.", "Ana has dogs"),
        ("Don't you like my cat?", "Ana has a cat"),
        ("I'm into chess right now.", "Ana likes chess"),
        ("We live in Porto, near the river.", "Ana lives in Porto"),
        ("I've been living in Porto for three years.", "Ana lives in Porto"),
        ("I've lived in Porto since 2019.", "Ana lives in Porto"),
        ("I live with two friends in Porto.", "Ana lives in Porto"),
        ("My new apartment is in Porto.", "Ana lives in Porto"),
        ("We've settled down in Porto.", "Ana lives in Porto"),
        ("Big news: we moved into a flat in Porto!", "Ana lives in Porto"),
        ("I moved from Braga to Porto.", "Ana lives in Porto"),
        ("I finally moved out of Braga and into an apartment in Porto.", "Ana lives in Porto"),
        ("We packed everything and moved to Porto.", "Ana lives in Porto"),
        ("We bought a small house in Porto and moved in.", "Ana lives in Porto"),
        ("I've been a nurse for ten years.", "Ana works as nurse"),
        ("I was hired as a nurse.", "Ana works as nurse"),
        ("They hired me as a nurse.", "Ana works as nurse"),
        ("I finally became a nurse.", "Ana works as nurse"),
        ("I switched careers: I'm now a nurse.", "Ana works as nurse"),
        ("I took a job as a nurse.", "Ana works as nurse"),
        ("I've been working at Airbus for years.", "Ana works at Airbus"),
        ("I'm employed by Airbus.", "Ana works at Airbus"),
        ("I got a new job at Airbus!", "Ana works at Airbus"),
        ("I'm severely allergic to nuts.", "Ana is allergic to nuts"),
        ("I have a nut allergy.", "Ana is allergic to nut"),
        ("I've developed an allergy to nuts.", "Ana is allergic to nuts"),
        ("I'm allergic to soy, not nuts.", "Ana is allergic to soy"),
        ("Sushi is my favourite food.", "Ana likes Sushi"),
        ("I prefer tea to coffee.", "Ana likes tea"),
        ("I'm not a fan of horror movies.", "Ana dislikes horror movies"),
        ("We got a dog.", "Ana has a dog"),
        ("I own a motorbike.", "Ana has a motorbike"),
        ("I'm fluent in Dutch.", "Ana speaks Dutch"),
        ("I speak a little Dutch.", "Ana speaks Dutch"),
        ("I just turned 40.", "Ana's age: 40"),
    ],
)
async def test_a_pattern_makes_a_fact(said: str, fact: str) -> None:
    assert await facts(f"Ana: {said}") == [fact]


@pytest.mark.parametrize(
    "line",
    [
        "Ana: If I live in Porto one day, I'll surf.",
        "Ana: Do I work as a nurse?",
        "Ana: She says I love rain, but I don't.",
        'Ana: He said "I live in Porto" and left.',
        "Ana: You live in Porto.",
        "Assistant: I live in Porto.",
        "Ana: I like it.",
        "Ana: I love the smell.",
        "Ana: I love going to that place.",
        "Ana: I love all the red roofs, so pretty!",
        "Ana: There's a lake I love - the sound of the wind.",
        "Ana: I enjoy the taste of these.",
        "Ana: I love making him happy.",
        "Ana: I love their design and engineering.",
        "Ana: I love how they fly.",
        "Ana: I have a job I enjoy every day.",
        "Ana: Cooking with the people I love makes me happy.",
        "Ana: I love the thought Ben!",
        "Ana: I'm a mess.",
        "Ana: I'm a nurse's daughter.",
        "Ana: I lost my job as a banker.",
        "Ana: I started at the beginning.",
        "Ana: I don't like it.",
        "Ana: I hate to say this.",
        "Ana: I'm into it.",
        "Ana: I'm learning a lot.",
        "Ana: You're like my sister.",
        "Ana: As my wife would say, no.",
        "Ana: My childhood dog was called Rex, I think.",
        "Ana: Our kids are our future.",
        "Ana: My boss has kids.",
        "Ana: You're not my girlfriend anymore.",
        "Ana: This is my horse painting.",
        "Ana: I took my fur kids to the pet salon.",
        "Ana: I used to sing with my husband.",
        "Ana: I still remember the hikes with my dog.",
        "Ana: My cat died.",
        "Ana: I'd like a dog.",
        "Ana: My mother called.",
        "Ana: We moved to Slack in the office.",
        "Ana: We moved to Friday instead.",
        "Ana: I moved from Python to Rust.",
        "Ana: I've moved from Airbus to Thales for a better job.",
        "Ana: I've lived in Porto, Oslo and Bern.",
        "Ana: My parents' house is in Porto.",
        "Ana: I'm a teacher at heart.",
        "Ana: I became a nurse in the play.",
        "Ana: They see me as a nurse.",
        "Ana: I was a nurse.",
        "Ana: I'm a customer at Siemens.",
        "Ana: I have a bad allergy today.",
        "Ana: I have no nut allergy.",
        "Ana: Ben has a nut allergy.",
        "Ana: It will wait for when I have kids.",
        "Ana: I bought a car magazine.",
        "Ana: I'm 10 minutes late.",
    ],
)
async def test_the_gate_holds_for_patterns_too(line: str) -> None:
    assert await facts(line) == []


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("My girlfriend, Rex and I went camping.", "Ana has a girlfriend, Rex"),
        ("My fluffy friend Daisy sleeps here.", "Ana has a friend, Daisy"),
    ],
)
async def test_a_list_and_a_pet_are_no_names_of_people(said: str, fact: str) -> None:
    assert fact not in await facts(f"Ana: {said}")


def test_a_turn_made_of_facts_gives_each_once_and_not_all_of_them() -> None:
    assert len(extract(window("Ana: " + "My dog Max barked. " * 50))) == 1
    names = [f"{first}{second}max" for first in "ABCDEFGHIJ" for second in "abcdefghij"]
    assert len(extract(window("Ana: " + " ".join(f"My dog {name} barked." for name in names)))) == MOST_OF_TURN


async def test_children_do_not_make_dogs_relatives() -> None:
    window_ = window("Ana: I have three kids, and I have two dogs.")
    assert [(each.relation, each.object) for each in extract(window_)] == [
        ("family", "three kids"),
        ("has", "two dogs"),
    ]


async def test_the_rejects_are_counted() -> None:
    outcome = await find_facts(window("Ana: If I live in Porto, I surf.", "Ana: I'm not allergic to cats."), PROMPT)
    assert outcome.reasons == {Reason.HYPOTHETICAL: 1}
    assert len(extract(window("Ana: I live in Porto."))) == 1


def test_central_turns_stand_for_an_episode() -> None:
    said = turns(
        "Ana: Hi!", "Ana: I planted roses and beans in my garden.", "Ben: Ok.", "Ben: Roses need water each day."
    )
    vectors = np.array([[0, 1], [1, 0], [0.6, -0.8], [0.8, 0.6]], np.float32)
    (episode,) = segment(said, vectors)
    summary = represent(episode, vectors)
    assert summary.text == "Ana: I planted roses and beans in my garden. Ben: Roses need water each day."
    assert summary.evidence_ids == (said[1].id, said[3].id)
    assert summary.is_extractive


def test_of_turns_of_like_length_the_central_ones_stand() -> None:
    said = turns("Ana: roses need water", "Ana: trains run late", "Ben: beans need water", "Ben: lilies need water")
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.96, -0.28]], np.float32)
    (episode,) = segment(said, vectors)
    assert said[1].id not in represent(episode, vectors).evidence_ids
    assert represent(episode, vectors).evidence_ids == (said[0].id, said[2].id)
