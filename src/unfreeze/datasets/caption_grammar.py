"""Words of the generated captions, and how facts about a scene become an English sentence."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

# A fact goes from general to specific, as in ("person", "child", "boy"); () says nothing.
Fact = tuple[str, ...]
# Facts by slot. Slots of a person end in 0 or 1, as in "mood1"; a scene of two has "who1" and "deed".
Facts = Mapping[str, Fact]

COLOURS = ("red", "blue", "green", "yellow", "black")
HEADGEAR = ("hat", "helmet")
GARMENTS = ("jacket", "coat", "sweater", *HEADGEAR)
JOBS = ("chef", "farmer", "nurse", "mechanic", "fisherman")
MOODS = {"happy": ("smiling", "laughing"), "unhappy": ("crying", "frowning")}
AIMS = ("for charity", "for a school project", "to win a prize", "to impress a friend")

# Slot → general → specific. "verb|object|participle" can be put in the passive; "~" marks an object without a plural.
TREES: dict[str, Mapping[str, Sequence[str]]] = {
    "person": {
        "child": ("boy", "girl"),
        "adult": ("man", "woman", "worker"),
    },
    "animal": {"pet": ("dog", "cat"), "farm animal": ("goat", "horse")},
    "mood": MOODS,
    "outfit": {garment: [f"{colour} {garment}" for colour in COLOURS] for garment in GARMENTS},
    "count": {"one": (), "some": ("two", "three", "four")},
    "activity": {
        "making music": ("playing|guitar|played", "playing|violin|played", "singing"),
        "doing sport": ("kicking|football|kicked", "throwing|javelin|thrown", "jogging"),
        "on the move": ("riding|bicycle|ridden", "driving|tractor|driven"),
        "preparing food": ("frying|egg|fried", "chopping|carrot|chopped", "baking|~bread|baked"),
        "resting": ("sleeping", "lying on a blanket", "leaning on a wall"),
        "having a meal": ("eating|sandwich|eaten", "eating|apple|eaten", "eating|~soup|eaten"),
        "cleaning": ("washing|window|washed", "scrubbing|pot|scrubbed", "sweeping"),
        "reading": ("reading|newspaper|read", "reading|letter|read", "reading|comic book|read"),
        "gardening": ("watering|flower|watered", "planting|tree|planted", "digging"),
    },
    "deed": {
        "on the heels of": ("chasing||chased", "following||followed"),
        "touching": ("pushing||pushed", "tickling||tickled", "nudging||nudged"),
        "making a picture of": ("photographing||photographed", "painting||painted", "filming||filmed"),
        "looking after": ("feeding||fed", "washing||washed", "brushing||brushed"),
    },
    "place": {
        "outdoors": ("in a park", "on a beach", "on a street", "in a forest"),
        "indoors": ("in a kitchen", "in a library", "in a garage", "in a church"),
    },
    "time": {
        "during the day": ("in the morning", "in the afternoon"),
        "after dark": ("late in the evening", "before sunrise"),
    },
    "weather": {
        "in wet weather": ("in the rain", "in the snow"),
        "in dry weather": ("in bright sunshine", "under a grey sky"),
    },
    "aim": dict.fromkeys(AIMS, ()),
}
PLURALS = {"person": "people", "child": "children"}


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options; of a generator's methods only ``random()`` is the same in every version of Python."""
    return options[int(rng.random() * len(options))]


def sentence(facts: Facts, rng: random.Random) -> str:
    """State all facts in one sentence, in one of several forms."""
    one, act = facts["count"] == ("one",), facts.get("activity")
    rest = [facts[slot][-1] for slot in ("place", "time", "weather") if facts.get(slot)]
    front = pick(rng, rest) if rest and rng.random() < 0.3 else ""
    rest = [phrase for phrase in rest if phrase != front]
    if aim := facts.get("aim"):
        act, rest = act or ("doing something",), [*rest, aim[-1]]
    if "who1" in facts:
        body = _two(facts, rng)
    elif act and "|" in act[-1] and rng.random() < 0.3:
        body = f"{_passive(act[-1], one)} by {_noun_phrase(facts, '0')}"
    else:
        who, verb = _noun_phrase(facts, "0"), "is" if one else "are"
        placed = facts.get("place", ())[-1:] == tuple(rest[:1])
        there = not (act or (rest and placed)) or rng.random() < 0.25
        body = " ".join(
            [f"there {verb} {who}" if there else f"{who} {verb}", *([_active(act[-1], one)] if act else [])]
        )
    return _finished(", ".join(part for part in (front, " ".join([body, *rest])) if part))


def claim(slot: str, facts: Facts, *, denied: bool) -> str:
    """State, or deny, the one fact of ``slot``."""
    kind, one, fact = slot.rstrip("01"), facts["count"] == ("one",), facts[slot][-1]
    verb = ("is" if one else "are") + (" not" if denied else "")
    number = slot[-1] if slot[-1] in "01" else "0"
    subject = f"the {_noun(facts, number)}"
    if kind == "outfit":
        return _finished(f"{subject} {verb} wearing {_object(fact, one)}")
    if kind == "activity":
        return _finished(f"{subject} {verb} {_active(fact, one)}")
    if kind == "deed":
        return _finished(f"{subject} {verb} {fact.split('|')[0]} the {_noun(facts, '1')}")
    if kind in ("mood", "place"):
        return _finished(f"{subject} {verb} {fact}")
    if kind == "count":
        if fact == "some":
            return _finished(f"there is{' not' if denied else ''} more than one {facts['who0'][-1]}")
        return _finished(f"there {verb} exactly {fact} {_noun(facts, '0')}")
    if kind == "who":
        return _finished(f"the {'person' if one else 'people'} {verb} {_object(fact, one)}")
    return _finished(f"this is{' not' if denied else ''} {'done' if kind == 'aim' else 'happening'} {fact}")


def _two(facts: Facts, rng: random.Random) -> str:
    first, second, deed = _noun_phrase(facts, "0"), _noun_phrase(facts, "1"), facts.get("deed")
    if not deed:
        return pick(rng, (f"{first} and {second} can be seen", f"{first} can be seen with {second}"))
    verb, passive, participle = deed[-1].partition("||")
    if passive and rng.random() < 0.4:
        return f"{second} is being {participle} by {first}"
    return f"{first} is {verb} {second}"


def _noun_phrase(facts: Facts, number: str) -> str:
    one, outfit = facts["count"] == ("one",), facts.get(f"outfit{number}")
    words = [*facts.get(f"mood{number}", ())[-1:], _noun(facts, number)]
    dressed = f" in {_object(outfit[-1], one)}" if outfit else ""
    phrase = " ".join(words)
    return (_with_article(phrase) if one else f"{facts['count'][-1]} {phrase}") + dressed


def _noun(facts: Facts, number: str) -> str:
    noun = facts[f"who{number}"][-1]
    return noun if facts["count"] == ("one",) else _plural(noun)


def _active(act: str, one: bool) -> str:
    verb, _, rest = act.partition("|")
    return f"{verb} {_object(rest.partition('|')[0], one)}" if rest else verb


def _passive(act: str, one: bool) -> str:
    _, thing, participle = act.split("|")
    return f"{_object(thing, one)} {'is' if one or thing[0] == '~' else 'are'} being {participle}"


def _object(thing: str, one: bool) -> str:
    if thing.startswith("~"):
        return thing[1:]
    return _with_article(thing) if one else _plural(thing)


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _plural(noun: str) -> str:
    if noun.endswith("man"):
        return f"{noun[:-3]}men"
    return PLURALS.get(noun, f"{noun}s")


def _finished(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
