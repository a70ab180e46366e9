"""The stage ``honesty``: a model that answers and facts in, one that says what it knows out.

Probe, teach, measure: ask each fact in several ways; teach the right answer where the model knows
it and a decline where it does not (R-Tuning, arXiv:2311.09677); then count on other subjects what
is still made up and what is declined without need.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.files import read_json, read_jsonl, write_json, write_jsonl
from fledge.core.protocols import Progress, Sampling
from fledge.core.run import Outcome
from fledge.data.conversations import read_conversations
from fledge.data.language import chinese_script
from fledge.engine.loading import load_engine
from fledge.metrics.answers import is_cjk
from fledge.metrics.intervals import wilson
from fledge.model.locate import find_checkpoint
from fledge.train.world import join_world
from fledge.tune.config import SftConfig
from fledge.tune.honesty_config import HonestyConfig
from fledge.tune.probing import (
    KNOWN,
    SHAKY,
    UNKNOWN,
    Asker,
    Fact,
    Probe,
    ask,
    engine_asker,
    read_facts,
    share,
    verdict_of,
)
from fledge.tune.sft import sft

DECLINES = {
    "en": ("I don't know.", "I don't know that.", "I have no information about that.",
           "I'm not sure, and I would rather not guess."),
    "zh-Hans": ("我不知道。", "这个我不清楚。", "我没有这方面的信息。", "我无法确定，不想乱猜。"),
    "zh-Hant": ("我不知道。", "這個我不清楚。", "我沒有這方面的資訊。", "我無法確定，不想亂猜。"),
}  # fmt: skip
"""What is taught where a fact brings no declines of its own."""

PROBE, CONVERSATIONS, REHEARSED = "probe.jsonl", "conversations.jsonl", "rehearsed.jsonl"


def honesty(
    config: HonestyConfig,
    model: Path,
    facts: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    rehearsal: Sequence[Path] = (),
    tokens: Path | None = None,
) -> Outcome:
    """Teach the model at ``model`` to tell what it knows from what it does not.

    Writes ``probe.jsonl`` (each fact, asked how, answered what, the verdict),
    ``conversations.jsonl`` (what is taught), ``measured.json`` and the checkpoint ``model/``.
    ``rehearsal`` are files of conversations for ``rehearse``, ``tokens`` the shards for
    ``replay_share``.  Counts: facts, known, unknown, shaky, conversations ...; figures:
    ``honesty.probe_made_up`` (unknown facts that are not declined) and
    ``honesty.probe_over_refusal`` (known ones that are), each with ``_before``.  What a killed run
    left is not asked again.
    """
    source = find_checkpoint(model)
    every = read_facts(facts)
    probes = _probed(config, every, source, out, progress)
    apart = _measured_subjects(config, probes)
    taught = [probe for probe in probes if probe.fact.subject not in apart]
    measured = [probe for probe in probes if probe.fact.subject in apart]
    rows = conversations_of(config, taught)
    if all(row["metadata"]["kind"] == UNKNOWN for row in rows):
        progress.say("the model knows none of these facts: it is taught to decline, nothing else")
    write_jsonl(out / CONVERSATIONS, rows)
    before = _measure(config, measured, source, out / "before.json", progress)
    files = [out / CONVERSATIONS, *_rehearsed(config, rehearsal, out)]
    values = config.model_dump(include=set(SftConfig.model_fields), exclude={"conversations"})
    learnt = sft(SftConfig(**values), source, files, out, progress, tokens=tokens)
    with join_world(config) as world:  # the others wait: the folder moves when the main one ends
        after = world.first(
            lambda: _measure(config, measured, out / "model", out / "after.json", progress)
        )
    write_json(out / "measured.json", {"before": before, "after": after})
    _tell(before, after, progress)
    verdicts = Counter(probe.verdict for probe in probes)
    counts = {
        "facts": len(every),
        **{verdict: verdicts[verdict] for verdict in (KNOWN, UNKNOWN, SHAKY)},
        "taught_known": sum(row["metadata"]["kind"] == KNOWN for row in rows),
        "taught_unknown": sum(row["metadata"]["kind"] == UNKNOWN for row in rows),
    }
    figures = {
        f"honesty.probe_{name}{when}": found[name]["value"]
        for when, found in (("_before", before), ("", after))
        for name in found
    }
    own = {name.replace("sft.", "honesty.", 1): v for name, v in learnt.figures.items()}
    return Outcome(counts=counts | learnt.counts, figures=own | figures)


def probe(
    config: HonestyConfig, facts: Sequence[Fact], asker: Asker, progress: Progress
) -> list[Probe]:
    """Ask ``facts`` in ``paraphrases`` wordings, with and without chance, and judge each."""
    samplings = [Sampling(max_new_tokens=config.max_new_tokens)]
    samplings += [
        Sampling(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=config.seed + number,
        )
        for number in range(config.draws)
    ]
    asked = ask(
        facts,
        lambda fact: fact.questions[: config.paraphrases],
        samplings,
        asker,
        progress,
        "probing",
    )
    return [
        Probe(
            fact=fact,
            asked=answers,
            verdict=verdict_of(fact, answers, config.known_at, config.unknown_at),
        )
        for fact, answers in zip(facts, asked, strict=True)
    ]


def conversations_of(config: HonestyConfig, probes: Sequence[Probe]) -> list[dict[str, Any]]:
    """What is taught: right answers and declines in ``known_share``, in all wordings in turn.

    Where the model knows nothing, declines only.  Raises InputError when there is nothing to
    decline: then there is nothing to learn.
    """
    rng = random.Random(f"honesty/{config.seed}")
    kinds = {kind: [p for p in probes if p.verdict == kind] for kind in (KNOWN, UNKNOWN)}
    known, unknown = len(kinds[KNOWN]), len(kinds[UNKNOWN])
    if not unknown:
        raise InputError(
            f"of {len(probes)} facts there is none that the model does not know",
            remedy="add facts that it cannot know, or leave the stage out",
        )
    ratio = config.known_share / (1 - config.known_share)
    most = {KNOWN: max(1, round(unknown * ratio)), UNKNOWN: max(1, round(known / ratio))}
    if not known:
        most[UNKNOWN] = unknown
    rows = []
    for kind, found in kinds.items():
        for one in rng.sample(found, min(len(found), most[kind])):
            wordings = rng.sample(one.fact.questions, len(one.fact.questions))
            rows += [_conversation(one, kind, q, rng) for q in wordings[: config.wordings]]
    rng.shuffle(rows)
    return rows


def _conversation(one: Probe, kind: str, question: str, rng: random.Random) -> dict[str, Any]:
    fact = one.fact
    if kind == UNKNOWN:
        answer = rng.choice(fact.declines or DECLINES[_script(fact)])
    else:
        answer = fact.reply or next(asked.answer for asked in one.asked if asked.right)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "metadata": {"kind": kind, "fact": fact.id}}


def _script(fact: Fact) -> str:
    """The language to decline in: as the fact says, else as its question is written."""
    if fact.language in DECLINES:
        return fact.language
    question = fact.questions[0]
    if any(map(is_cjk, question)):
        return chinese_script(question, default="zh-Hans")
    return "en"


def _probed(
    config: HonestyConfig, facts: Sequence[Fact], source: Path, out: Path, progress: Progress
) -> list[Probe]:
    """The probes of ``probe.jsonl``, asked now unless a killed run left them."""
    path = out / PROBE
    if path.is_file():
        by_id = {row["id"]: row for row in read_jsonl(path)}
        return [Probe.of_row(fact, by_id[fact.id]) for fact in facts]
    probes = probe(config, facts, engine_asker(load_engine(source)), progress)
    write_jsonl(path, (one.row() for one in probes))
    return probes


def _measured_subjects(config: HonestyConfig, probes: Sequence[Probe]) -> set[str]:
    """Subjects to measure on: a share of those with known facts and of those without."""
    known = {one.fact.subject for one in probes if one.verdict == KNOWN}
    apart: set[str] = set()
    for group in (known, {one.fact.subject for one in probes} - known):
        subjects = sorted(group)
        random.Random(f"honesty/measured/{config.seed}").shuffle(subjects)
        apart.update(subjects[: round(config.measured * len(subjects))])
    return apart


def _measure(
    config: HonestyConfig, probes: Sequence[Probe], model: Path, path: Path, progress: Progress
) -> dict[str, Any]:
    """Shares with intervals on ``probes``, in wordings that were not probed where there are any.

    Of unknown facts the share made up, i.e. not declined; of known ones the shares declined and
    right.  Kept in ``path``.
    """
    if path.is_file():
        found: dict[str, Any] = read_json(path)
        return found
    judged = [one for one in probes if one.verdict != SHAKY]
    asked = ask(
        [one.fact for one in judged],
        lambda fact: fact.questions[config.paraphrases :] or fact.questions,
        [Sampling(max_new_tokens=config.max_new_tokens)],
        engine_asker(load_engine(model)),
        progress,
        f"measuring {path.stem}",
    )
    of = {
        kind: [answer for one, answers in zip(judged, asked, strict=True)
               if one.verdict == kind for answer in answers]
        for kind in (KNOWN, UNKNOWN)
    }  # fmt: skip
    shares = {
        "made_up": [not answer.declined for answer in of[UNKNOWN]],
        "over_refusal": [answer.declined for answer in of[KNOWN]],
        "right": [answer.right for answer in of[KNOWN]],
    }
    result = {
        name: {"value": share(hits), "ci95": list(wilson(sum(hits), len(hits))), "n": len(hits)}
        for name, hits in shares.items()
        if hits
    }
    write_json(path, result)
    return result


def _rehearsed(config: HonestyConfig, files: Sequence[Path], out: Path) -> list[Path]:
    """A file with ``rehearse`` conversations drawn from ``files``; none where none are wanted."""
    if not config.rehearse:
        return []
    every = [one for file in files for one in read_conversations(file)]
    if not every:
        raise InputError(
            f"[honesty] rehearse = {config.rehearse} needs conversations",
            remedy="name files in conversations, or set rehearse = 0",
        )
    drawn = random.Random(f"honesty/rehearse/{config.seed}").sample(
        every, min(config.rehearse, len(every))
    )
    rows = ({"messages": [m.to_openai() for m in one.messages],
             **({"tools": list(one.tools)} if one.tools else {})} for one in drawn)  # fmt: skip
    write_jsonl(out / REHEARSED, rows)
    return [out / REHEARSED]


def _tell(before: dict[str, Any], after: dict[str, Any], progress: Progress) -> None:
    said = {"made_up": "unknown facts made up", "over_refusal": "known facts declined",
            "right": "known facts right"}  # fmt: skip
    for name, words in said.items():
        if name in before:
            old, new = before[name]["value"], after[name]["value"]
            progress.say(f"{words}: {old:.1%} before, {new:.1%} after")
