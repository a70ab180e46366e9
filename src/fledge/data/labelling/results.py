"""Tasks and labels in; how far people agree, and rows to train on, out.  Pure.

Rankings are taken apart into pairs of answers.  Of a pair a label says which one is better, or
that they are equal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import Any

from fledge.core.types import content_hash
from fledge.data.chat_forms import Conversation
from fledge.data.labelling.labels import Label, Labels, Ranking
from fledge.data.labelling.tasks import LabelTask
from fledge.data.preference_forms import Preference
from fledge.data.preferences import conversation_row, preference_row
from fledge.metrics.agreement import cohen_kappa, krippendorff_alpha

Pair = tuple[str, str]
"""Ids of two answers; which of them stands first is as good as drawn, see ``pairs_of``."""

FIRST, SECOND, TIE = "first", "second", "tie"


def verdict(ranking: Ranking, pair: Pair) -> str:
    """What a ranking says of two answers: ``first`` or ``second`` is better, or ``tie``."""
    place = {one: number for number, group in enumerate(ranking) for one in group}
    first, second = place[pair[0]], place[pair[1]]
    return TIE if first == second else FIRST if first < second else SECOND


def pairs_of(task: LabelTask) -> list[Pair]:
    """All pairs of a task's answers, in an order that follows from a hash of task and answer.

    In the order of the file the first may always be the chosen one, and agreement by chance with
    an annotator who is right would look high.
    """
    ids = sorted(task.by_id, key=lambda one: content_hash(f"{task.key} {one}"))
    return list(combinations(ids, 2))


def _by_task(labels: Labels) -> dict[str, list[Label]]:
    found: dict[str, list[Label]] = defaultdict(list)
    for _, label in sorted(labels.items()):
        found[label.task].append(label)
    return found


# --- agreement -----------------------------------------------------------------------------


def statistics(tasks: Sequence[LabelTask], labels: Labels) -> dict[str, Any]:
    """Progress of each annotator and the agreement of all, as ``fledge label stats`` tells them.

    ``alpha`` and the ``kappa`` of each two annotators are None where they share no pair.
    """
    judged = _judgements(tasks, labels)
    names = sorted({name for _, name in labels})
    decided = [said for item in judged for said in item.values()]
    return {
        "tasks": {kind: sum(task.kind == kind for task in tasks) for kind in ("rank", "write")},
        "labelled": len({label.task for label in labels.values() if label.kind != "skip"}),
        "annotators": {name: _progress(labels, name) for name in names},
        "alpha": _alpha(judged),
        "kappa": [_kappa(judged, two) for two in combinations(names, 2)],
        "ties": _share([said == TIE for said in decided]),
        "first_shown": _share(_first_shown(labels)),
    }


def _judgements(tasks: Sequence[LabelTask], labels: Labels) -> list[dict[str, str]]:
    """Of each pair of answers: annotator -> verdict."""
    told = _by_task(labels)
    return [
        {one.annotator: verdict(one.ranking, pair) for one in told[task.key] if one.ranking}
        for task in tasks
        if task.key in told
        for pair in pairs_of(task)
    ]


def _progress(labels: Labels, name: str) -> dict[str, Any]:
    own = [label for (_, annotator), label in labels.items() if annotator == name]
    counts = Counter(label.kind for label in own)
    seconds = [label.seconds for label in own if label.kind != "skip"]
    return {
        "rank": counts["rank"],
        "write": counts["write"],
        "skip": counts["skip"],
        "seconds": round(median(seconds), 1) if seconds else None,
    }


def _alpha(judged: Sequence[dict[str, str]]) -> float | None:
    rated = [list(item.values()) for item in judged if len(item) > 1]
    return krippendorff_alpha(rated) if rated else None


def _kappa(judged: Sequence[dict[str, str]], two: tuple[str, str]) -> dict[str, Any]:
    shared = [item for item in judged if two[0] in item and two[1] in item]
    sides = [[item[name] for item in shared] for name in two]
    return {
        "annotators": list(two),
        "pairs": len(shared),
        "kappa": cohen_kappa(*sides) if shared else None,
    }


def _first_shown(labels: Labels) -> Iterator[bool]:
    """Of two answers, one of which was chosen: whether it stood first; half is no bias."""
    for label in labels.values():
        if len(label.ranking) == len(label.shown) == 2:
            yield label.ranking[0] == label.shown[:1]


def _share(found: Iterator[bool] | Sequence[bool]) -> float | None:
    seen = list(found)
    return sum(seen) / len(seen) if seen else None


# --- rows to train on ----------------------------------------------------------------------


@dataclass(kw_only=True)
class Exported:
    """Rows, and what became of the tasks and pairs that gave none."""

    sft: list[dict[str, Any]] = field(default_factory=list)
    preferences: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """``written``, ``best``, ``pairs``; left out: ``ties``, ``disagreements``, ``no_best``,
    ``unlabelled`` tasks."""


def export(tasks: Sequence[LabelTask], labels: Labels) -> Exported:
    """Written and best answers to learn; pairs of which more than half of the labels say the same.

    The best answer of a task is the one that a majority puts before each other one.
    """
    told = _by_task(labels)
    done = Exported(counts=Counter(dict.fromkeys(COUNTS, 0)))
    for task in tasks:
        found = [one for one in told[task.key] if one.kind != "skip"] if task.key in told else []
        if not found:
            done.counts["unlabelled"] += 1
        elif task.answers:
            _export_ranked(task, [one.ranking for one in found], done)
        else:
            _export_written(task, found, done)
    return done


COUNTS = ("written", "best", "pairs", "ties", "disagreements", "no_best", "unlabelled")


def _export_written(task: LabelTask, found: Sequence[Label], done: Exported) -> None:
    texts: dict[str, list[str]] = defaultdict(list)
    for label in found:
        texts[label.text.strip()].append(label.annotator)
    for text, names in texts.items():
        answer = [{"role": "assistant", "content": text}]
        done.sft.append(_to_learn(task, answer, {"annotators": names}))
        done.counts["written"] += 1


def _export_ranked(task: LabelTask, rankings: Sequence[Ranking], done: Exported) -> None:
    wins: Counter[str] = Counter()
    for pair in pairs_of(task):
        votes = Counter(verdict(ranking, pair) for ranking in rankings)
        most = next((said for said in votes if 2 * votes[said] > len(rankings)), None)
        if most in (None, TIE):
            done.counts["ties" if most == TIE else "disagreements"] += 1
            continue
        better, worse = pair if most == FIRST else (pair[1], pair[0])
        wins[better] += 1
        done.counts["pairs"] += 1
        done.preferences.append(_preferred(task, (better, worse), votes))
    best = [one for one in wins if wins[one] == len(task.answers) - 1]
    done.counts["best" if best else "no_best"] += 1
    for one in best:
        answer = [message.to_openai() for message in task.by_id[one]]
        done.sft.append(_to_learn(task, answer, {"labels": len(rankings)}))


def _preferred(task: LabelTask, pair: Pair, votes: Counter[str]) -> dict[str, Any]:
    chosen, rejected = (task.by_id[one] for one in pair)
    two = Preference(prompt=task.prompt, chosen=chosen, rejected=rejected, tools=task.tools)
    agreed = max(votes[FIRST], votes[SECOND])
    said = {"labels": votes.total(), "agreed": agreed, "ties": votes[TIE]}
    return {**preference_row(two), "metadata": {"task": task.key, **said}}


def _to_learn(
    task: LabelTask, answer: list[dict[str, Any]], metadata: dict[str, Any]
) -> dict[str, Any]:
    """A conversation of which the answer is learnt, not what an assistant said in the prompt."""
    earlier = frozenset(n for n, one in enumerate(task.prompt) if one.role == "assistant")
    row = conversation_row(Conversation(messages=task.prompt, tools=task.tools, untaught=earlier))
    row["messages"] = [*row["messages"], *answer]
    return {**row, "metadata": {"task": task.key, **metadata}}
