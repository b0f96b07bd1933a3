"""The study's answer in plain sentences, every one written from the numbers of ``comparison.json``."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

INTERVALS = ("interval", "interval_90")
NAMED = 4  # strategies that get a sentence of their own; a verdict is short


def write_verdict(comparison: Row) -> list[str]:
    """Say what a comparison found: the best, what equals it, what is not known, what is given up, what to beware of.

    Args:
        comparison: the content of ``comparison.json`` without its verdict; ``compared_at`` may not be known yet.
    """
    strategies = comparison["strategies"]
    sentences = []
    if comparison["ranking"]:
        sentences += _best(comparison)
    elif strategies:
        sentences.append("No strategy beats always answering the most frequent class, so there is nothing to rank.")
    else:
        sentences.append("No run finished, so there is nothing to compare.")
    return sentences + _cautions(comparison)


def _best(comparison: Row) -> list[str]:
    strategies, (best, *others) = comparison["strategies"], comparison["ranking"]
    accuracy, seeds = strategies[best]["accuracy"], len(strategies[best]["seeds"])
    spread = "one run" if seeds == 1 else f"mean of {seeds} seeds, sd {_points(accuracy['sd'])}"
    higher = any(strategies[other]["accuracy"]["mean"] > accuracy["mean"] for other in comparison["unranked"])
    at = comparison.get("compared_at") or {}
    lead = f"At equal {at['name']}, " if at.get("name") else ""
    lead += "of the strategies whose every run learned, " if higher else ""
    highest = f"{_name(comparison, best)} has the highest test accuracy: {_percent(accuracy['mean'])} ({spread})."
    sentences = [lead[:1].upper() + lead[1:] + highest]
    against = {other: _against(comparison, best, other) for other in others}
    equivalent = {other: pair for other, pair in against.items() if pair["decision"] == "equivalent"}
    undecided = {other: pair for other, pair in against.items() if pair["decision"] == "undecided"}
    sentences += _equivalent(comparison, best, equivalent) + _undecided(comparison, best, undecided)
    sentences += _for_less(comparison, best, [*equivalent, *undecided])
    return sentences + _losers(comparison, {i: pair for i, pair in against.items() if pair["decision"] == "worse"})


def _equivalent(comparison: Row, best: int, against: dict[int, Row]) -> list[str]:
    """A finding: these differ from the best by less than the study cares about."""
    if not against:
        return []
    names = _list([f"{_name(comparison, other)} ({_gap(pair, 90)})" for other, pair in against.items()])
    margin = f"within ±{_points(comparison['equivalence'])} of it"
    return [f"Equivalent to {_name(comparison, best)}, {margin}: {names}.", *_fastest(comparison, best, against)]


def _undecided(comparison: Row, best: int, against: dict[int, Row]) -> list[str]:
    """Not knowing, and what would end it; a long tail is summed up."""
    sentences = [
        f"Undecided whether {_name(comparison, other)} is any worse ({_gap(pair, 95)}{_among(pair, comparison)}): "
        f"{_settled_by(pair)}."
        for other, pair in list(against.items())[:NAMED]
    ]
    if len(against) > NAMED:
        sentences.append(f"Undecided too: {len(against) - NAMED} others.")
    return sentences + _fastest(comparison, best, against)


def _among(pair: Row, comparison: Row) -> str:
    """Why a pair is undecided though its own interval leaves zero out: nothing where it does not."""
    low, high = pair["interval"] or (0, 0)
    return f", not enough among {len(comparison['pairs'])} comparisons" if low * high > 0 else ""


def _settled_by(pair: Row) -> str:
    """What this study could have found, and what would settle the pair, were the difference seen the true one."""
    seeds, examples = pair["to_settle"]["seeds"], pair["to_settle"]["test_examples"]
    if pair["interval"] is None:
        return "one group of test examples says nothing about others"
    able = f"a study like this finds differences of {_points(pair['detectable'])}; " if pair["detectable"] else ""
    return able + _larger(pair["covers_seeds"], seeds, examples)


def _larger(covers_seeds: bool, seeds: int | None, examples: int | None) -> str:
    if not covers_seeds:
        return f"{examples:,} test examples would settle it for these runs" if examples else "test examples cannot tell"
    if seeds and examples:
        return f"{seeds:,} seeds or {examples:,} test examples would settle it"
    if seeds:
        return f"{seeds:,} seeds would settle it, more test examples alone would not"
    if examples:
        return f"{examples:,} test examples would settle it, more seeds alone would not"
    return "neither more seeds nor more test examples alone would settle it"


def _fastest(comparison: Row, best: int, among: dict[int, Row]) -> list[str]:
    """Which of them saves most of the best one's training time, where all have not been given the same."""
    strategies = comparison["strategies"]
    if _same_time(comparison):
        return []
    cheapest = _cheapest(strategies, [best, *among])
    if cheapest in (None, best):
        return []
    share = strategies[cheapest]["alone_seconds"] / strategies[best]["alone_seconds"]
    return [f"Of these, {_name(comparison, cheapest)} trains fastest, in {100 * share:.0f} % of the time of the best."]


def _for_less(comparison: Row, best: int, named: list[int]) -> list[str]:
    """What a smaller budget of time buys: strategies that nothing faster beats."""
    strategies = comparison["strategies"]
    if _same_time(comparison):
        return []
    timed = [index for index in comparison["ranking"] if strategies[index]["alone_seconds"]]
    if best not in timed:
        return []
    front: list[int] = []
    for index in sorted(timed, key=lambda index: (strategies[index]["alone_seconds"], timed.index(index))):
        if not front or timed.index(index) < timed.index(front[-1]):
            front.append(index)
    bought = [
        f"{_name(comparison, index)} reaches {_percent(strategies[index]['accuracy']['mean'])} "
        f"in {100 * strategies[index]['alone_seconds'] / strategies[best]['alone_seconds']:.0f} %"
        for index in reversed(front)
        if index != best and index not in named
    ]
    return [f"With less of its training time: {_list(bought[:NAMED])}."] if bought else []


def _same_time(comparison: Row) -> bool:
    return bool((comparison.get("compared_at") or {}).get("kind") == "seconds")


def _losers(comparison: Row, against: dict[int, Row]) -> list[str]:
    """What each decided difference costs, nearest first; a long tail is summed up."""
    named, rest = list(against)[:NAMED], [100 * abs(against[other]["difference"]) for other in list(against)[NAMED:]]
    sentences = []
    for other in named:
        low, high = sorted(abs(100 * bound) for bound in against[other]["interval"])
        lost = _points(abs(against[other]["difference"]))
        sentences.append(f"{_name(comparison, other)} gives up {lost} (95 % interval {low:.1f} to {high:.1f}).")
    if rest:
        sentences.append(f"The {len(rest)} others give up {min(rest):.1f} to {max(rest):.1f} points.")
    return sentences


def _gap(pair: Row, level: int) -> str:
    """The difference with its interval of 90 or 95 %."""
    gap, interval = f"{100 * pair['difference']:+z.1f} points", pair["interval" if level == 95 else "interval_90"]
    if interval is None:
        return gap
    low, high = interval
    return f"{gap}, {level} % interval {100 * low:+z.1f} to {100 * high:+z.1f}"


def _against(comparison: Row, best: int, other: int) -> Row:
    """The pair of both, said of the other: its difference is the other less the best."""
    pair = next(pair for pair in comparison["pairs"] if {pair["a"], pair["b"]} == {best, other})
    return pair if pair["a"] == other else turned(pair)


def turned(pair: Row) -> Row:
    """The same pair, said of its second strategy."""
    intervals = {key: pair[key] and [-bound for bound in pair[key][::-1]] for key in INTERVALS if key in pair}
    decision = {"better": "worse", "worse": "better"}.get(pair["decision"], pair["decision"])
    return {
        **pair,
        **intervals,
        "a": pair["b"],
        "b": pair["a"],
        "difference": -pair["difference"],
        "decision": decision,
    }


def _cheapest(strategies: list[Row], among: list[int]) -> int | None:
    timed = [index for index in among if strategies[index]["alone_seconds"]]
    if among[0] not in timed:
        return None
    return min(timed, key=lambda index: strategies[index]["alone_seconds"])


def _cautions(comparison: Row) -> list[str]:
    strategies, at = comparison["strategies"], comparison.get("compared_at") or {}
    sentences = list(at["sentences"]) if at.get("name") else []
    if comparison["unranked"]:
        names = _list([_name(comparison, index) for index in comparison["unranked"]])
        runs = sum(len(strategies[index]["not_learned"]) for index in comparison["unranked"])
        share = comparison["test"]["majority_share"]
        sentences.append(
            f"Not ranked: {names}; {runs} of their runs did no better than always answering the most frequent class "
            f"({_percent(share)})."
        )
    single = [index for index, strategy in enumerate(strategies) if len(strategy["seeds"]) == 1]
    if single:
        who = "Every strategy" if len(single) == len(strategies) else _list([_name(comparison, i) for i in single])
        sentences.append(
            f"{who} ran with one seed only: intervals on it cover the choice of test items, not the luck of training."
        )
    if comparison["failed"]:
        count = len(comparison["failed"])
        sentences.append(
            f"{count} {'run' if count == 1 else 'runs'} failed and {'is' if count == 1 else 'are'} not compared."
        )
    return sentences


def _name(comparison: Row, index: int) -> str:
    strategies = comparison["strategies"]
    one_encoder = len({strategy["encoder"] for strategy in strategies}) == 1
    strategy = strategies[index]
    return str(strategy["strategy"]) if one_encoder else f"{strategy['strategy']} on {strategy['encoder']}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _list(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
