"""A generated corpus of captions: the embedded default, made in a second and always the same.

A scene is a set of facts, each a path from general to specific. A caption states some of them, some only in general,
and leaves the rest out. A hypothesis claims one fact, among true ones; comparing it with what is stated
gives the label:

- the claim is the stated fact or a beginning of it (omission, hypernym): entailment;
- the claim goes further than what is stated, or nothing is (unverifiable detail): neutral;
- the two part ways (another colour, number, place or activity, roles swapped): contradiction.

Negation turns entailment and contradiction round; the passive changes nothing. Which fact is claimed, how far, in which
words and whether it is denied is drawn without regard to the label, so that the hypothesis alone says little about it.
"""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa

from unfreeze.datasets.caption_grammar import AIMS, HEADGEAR, JOBS, MOODS, TREES, Fact, Facts, claim, pick, sentence
from unfreeze.datasets.readers import Rows
from unfreeze.datasets.source import Chosen, Source, raw_table
from unfreeze.errors import DataError
from unfreeze.study import Columns, DataSpec

LABELS = ("entailment", "neutral", "contradiction")
OPPOSITE = {"entailment": "contradiction", "neutral": "neutral", "contradiction": "entailment"}
NOISE = 0.02  # share of pairs that carry another label, as human annotation does
COUPLES = 0.05  # share of scenes with two who do something to each other

# Facts that part ways at words of which one is in such a set and the other is not can both be true.
COMPATIBLE = (("worker",), HEADGEAR, *((aim,) for aim in AIMS), *((mood,) for kind in MOODS.values() for mood in kind))
ELSEWHERE: dict[Fact, tuple[Fact, ...]] = {
    ("indoors",): (("on the move",), ("doing sport",), ("gardening",)),
    ("outdoors",): (("preparing food",), ("cleaning",)),
}
MAIN = {"who0", "who1", "count", "activity", "deed"}
PEOPLE_ONLY = (("making a picture of",), ("looking after",))


def read(spec: DataSpec) -> Source:
    """Generate ``spec.pairs`` pairs, three to a caption; another ``spec.seed`` makes other ones.

    Raises:
        DataError: a path or columns are named: whoever does so has data of their own, and captions is the default.
    """
    if spec.path or spec.config or spec.columns != Columns():
        raise DataError("captions are generated and have no path or columns; for your own data write dataset: files")
    rng = random.Random(f"captions {spec.seed}")
    records: list[tuple[str, str, str]] = []
    while len(records) < spec.pairs:
        facts = _scene(rng)
        if () not in facts.values():
            continue  # everything is stated: no detail is left that could be neutral
        premise = sentence(facts, rng)
        # All three hypotheses are about the same kind of fact, or a mention of details would give neutral away.
        about_detail = any(fact for slot, fact in facts.items() if slot not in MAIN) and rng.random() < 0.6
        for label in LABELS:
            hypothesis = _hypothesis(facts, label, about_detail, rng)
            gold = pick(rng, [other for other in LABELS if other != label]) if rng.random() < NOISE else label
            records.append((premise, hypothesis, gold))
    table = pa.table(list(zip(*records[: spec.pairs], strict=True)), names=["premise", "hypothesis", "label"])
    rows = Rows(table, np.arange(1, len(table) + 1), [])
    usable, dropped = raw_table(
        "captions", rows, Chosen(premise="premise", hypothesis="hypothesis", label="label"), LABELS
    )
    return Source("captions", {"train": usable}, LABELS, dropped)


def relation(stated: Fact, claimed: Fact) -> str:
    """The label of a claim about what a caption states, () where it states nothing."""
    if stated[: len(claimed)] == claimed:
        return "entailment"
    if claimed[: len(stated)] == stated:
        return "neutral"
    one, other = next((one, other) for one, other in zip(stated, claimed, strict=False) if one != other)
    both = any((one in words) != (other in words) for words in COMPATIBLE)
    return "neutral" if both else "contradiction"


def _paths(kind: str) -> list[Fact]:
    """Every fact of a slot, general and specific."""
    if kind == "who":
        jobs = [("person", "adult", "worker", job) for job in JOBS]
        return [(root, *path) for root in ("person", "animal") for path in _paths(root)] + jobs
    tree = TREES[kind]
    return [(general,) for general in tree] + [(general, word) for general, words in tree.items() for word in words]


PATHS = {kind: _paths(kind) for kind in ("who", *TREES)}
AT_DEPTH = {
    (kind, depth): [path for path in paths if min(len(path) - (kind == "who"), 2) == depth]
    for kind, paths in PATHS.items()
    for depth in (1, 2)
}
PEOPLE = [path for path in PATHS["who"] if path[0] == "person"]


def _scene(rng: random.Random) -> Facts:
    """What a caption states: of some who are at something, or of two of whom one does something to the other."""
    facts = {slot: _some(slot, rng) for slot in ("place", "time", "weather")}
    for slot in sorted(facts, key=lambda _: rng.random())[: pick(rng, (1, 2))]:
        facts[slot] = ()
    dark = facts["time"][:1] == ("after dark",)
    if facts["place"][:1] == ("indoors",) or (dark and facts["weather"][1:] == ("in bright sunshine",)):
        facts["weather"] = ()
    if rng.random() < COUPLES:
        return facts | {"count": ("one",)} | _couple(rng)
    facts |= {"who0": pick(rng, PEOPLE), "mood0": (), "outfit0": ()}
    slot = pick(rng, ("mood", "outfit"))
    facts[f"{slot}0"] = _some(slot, rng)
    facts["activity"] = _some("activity", rng)
    while facts["activity"][:1] in ELSEWHERE.get(facts["place"][:1], ()):
        facts["activity"] = _some("activity", rng)
    facts["aim"] = _some("aim", rng) if facts["activity"] else ()
    facts["count"] = pick(rng, (("one",), ("one",), ("some",), pick(rng, AT_DEPTH["count", 2])))
    return facts


def _couple(rng: random.Random) -> dict[str, Fact]:
    """Two who cannot be taken for each other; an animal has neither mood nor outfit, and few things that it can do."""
    facts = {"who0": pick(rng, PATHS["who"]), "who1": pick(rng, PATHS["who"]), "deed": _some("deed", rng)}
    while facts["who0"][: len(facts["who1"])] == facts["who1"][: len(facts["who0"])]:
        facts["who1"] = pick(rng, PATHS["who"])
    while not _able(facts["who0"], facts["deed"]):
        facts["deed"] = _some("deed", rng)
    for number in "01":
        if facts[f"who{number}"][0] == "person":
            facts[f"mood{number}"] = _some("mood", rng)
            # Often the same garment on both, so that who wears which colour has to be read.
            garment = facts.get("outfit0", ())[:1] if rng.random() < 0.7 else ()
            alike = [path for path in AT_DEPTH["outfit", 2] if path[:1] == garment and path != facts["outfit0"]]
            facts[f"outfit{number}"] = pick(rng, alike) if alike else _some("outfit", rng)
    return facts


def _able(who: Fact, deed: Fact) -> bool:
    return who[0] == "person" or deed[:1] not in PEOPLE_ONLY


def _some(slot: str, rng: random.Random) -> Fact:
    """Nothing, something general or, as often as nothing, something specific."""
    options = AT_DEPTH.get((slot, pick(rng, (0, 0, 0, 0, 1, 2, 2, 2, 2, 2))), [])
    return pick(rng, options) if options else ()


def _hypothesis(facts: Facts, label: str, about_detail: bool, rng: random.Random) -> str:
    """A sentence that stands in the relation ``label`` to a caption of these facts."""
    couple = "who1" in facts
    options: list[Fact] = []
    while not options:
        if rng.random() < 0.05:
            about_detail = not about_detail  # there may be nothing of the other kind to claim
        slots = [slot for slot in facts if (slot in MAIN) != about_detail and not (couple and slot == "count")]
        slot = pick(rng, [*slots, *(["activity"] * 4 if "activity" in slots else [])])
        depth = pick(rng, (1, 2, 2))
        kind = slot.rstrip("01")
        # Of two, "the person is a boy" would not say which.
        denied = rng.random() < 0.05 and not (couple and kind == "who")
        swapped = slot == "deed" and rng.random() < 0.5
        target = OPPOSITE[label] if denied else label
        options = [path for path in AT_DEPTH[kind, depth] if _holds(facts[slot], path, target, swapped)]
        if kind == "who":
            options = [path for path in options if path[0] == facts[slot][0]]
        if kind == "deed":
            options = [path for path in options if _able(facts["who1" if swapped else "who0"], path)]
    told = _around(facts, rng) | {slot: pick(rng, options)}
    if swapped:
        told = {key.translate(str.maketrans("01", "10")): fact for key, fact in told.items()}
    alone = rng.random() < 0.35 and not (couple and kind == "who")
    # "There is a man" does not say that there is only one.
    if alone or denied or (slot == "count" and told[slot] == ("one",)):
        return claim(slot, told, denied=denied)
    return sentence(told, rng)


def _holds(stated: Fact, claimed: Fact, label: str, swapped: bool) -> bool:
    """Whether a claim has that label; with roles swapped, whatever is stated of the two is contradicted."""
    if swapped and stated:
        return label == "contradiction" and relation(stated, claimed) == "entailment"
    return relation(stated, claimed) == label


def _around(facts: Facts, rng: random.Random) -> dict[str, Fact]:
    """True parts of a scene to set a claim in: who, how many, perhaps at what, perhaps one detail."""
    couple = "who1" in facts
    told = {slot: facts[slot] for slot in ("who0", "who1") if slot in facts}
    if not couple:
        told["who0"] = _beginning(facts["who0"], rng, least=1)
    told["count"] = _beginning(facts["count"], rng, least=1)
    doing = "deed" if couple else "activity"
    told[doing] = _beginning(facts[doing], rng)
    details = [slot for slot, fact in facts.items() if fact and slot not in (*told, "aim")]
    if details and rng.random() < 0.2:
        detail = pick(rng, details)
        told[detail] = _beginning(facts[detail], rng, least=1)
    return told


def _beginning(fact: Fact, rng: random.Random, least: int = 0) -> Fact:
    return fact[: pick(rng, range(least, len(fact) + 1))]
