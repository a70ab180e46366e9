"""The scorers on the sample world: every right sentence passes, every wrong one fails."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fledge.core.files import write_jsonl
from fledge.evals.dataset import Sample, read_set
from fledge.evals.scorers import scorer_of
from fledge.samples.bridges.facts import Bridge, known, load_bridges, say, select, split, value
from fledge.samples.bridges.invented import all_names, invent
from fledge.samples.bridges.phrases import LANGUAGES, load_phrases
from fledge.samples.bridges.questions import write_facts, write_questions
from fledge.samples.bridges.specification import load_specification
from fledge.samples.bridges.specification_dialogue import write_spec_questions

SEED = 5


@pytest.fixture(scope="module")
def bridges() -> list[Bridge]:
    return select(load_bridges(), 120, SEED)


def as_samples(tmp_path: Path, records: list[dict[str, Any]]) -> list[Sample]:
    write_jsonl(tmp_path / "set.jsonl", records)
    return read_set(tmp_path / "set.jsonl")


def right(sample: Sample, answer: str) -> bool:
    return scorer_of(sample)[1](sample, answer).correct


def test_facts(bridges: list[Bridge], tmp_path: Path) -> None:
    held = split(bridges, SEED)[1]
    records = write_facts(bridges, held, random.Random(SEED), 1)
    by_id = {bridge.id: bridge for bridge in bridges}
    rng = random.Random(SEED)
    missed, fooled, wrong_tries = [], [], 0
    for record, sample in zip(records, as_samples(tmp_path, records), strict=True):
        bridge = by_id[record["metadata"]["bridge"]]
        phrases = load_phrases(sample.language).attributes[sample.attribute]
        for template in phrases.answer:
            said = say(template, bridge, sample.language, sample.attribute)
            if not right(sample, said):
                missed.append((sample.question, said))
        other = rng.choice([b for b in bridges if sample.attribute in known(b)])
        if value(other, sample.attribute, sample.language) == sample.target:
            continue
        wrong_tries += 1
        wrong = value(other, sample.attribute, sample.language) or ""
        stated = say(phrases.answer[0], other, sample.language, sample.attribute)
        lies = (wrong, f"{sample.target} {wrong}", stated)
        fooled += [(sample.question, sample.target, lie) for lie in lies if right(sample, lie)]
    assert len(records) > 1000
    assert wrong_tries > 500
    assert missed == []
    assert fooled == []


def test_declines_are_seen_and_are_no_answers(bridges: list[Bridge], tmp_path: Path) -> None:
    held = split(bridges, SEED)[1]
    records = write_facts(bridges, held, random.Random(SEED), 1)
    rng = random.Random(SEED)
    for record, sample in zip(records, as_samples(tmp_path, records), strict=True):
        bridge = next(b for b in held if b.id == record["metadata"]["bridge"])
        phrases = load_phrases(sample.language)
        said = say(rng.choice(phrases.decline), bridge, sample.language)
        score = scorer_of(sample)[1](sample, said)
        assert score.declined, said
        assert not score.correct, said
        stated = rng.choice(phrases.attributes[sample.attribute].answer)
        answer = say(stated, bridge, sample.language, sample.attribute)
        assert not scorer_of(sample)[1](sample, answer).declined, answer


def test_unanswerable_and_arithmetic(bridges: list[Bridge], tmp_path: Path) -> None:
    taught, held = split(bridges, SEED)
    assert taught
    invented = invent(40, all_names(bridges), SEED)
    names = {b.id: b for b in (*invented, *held)}
    records = write_questions(bridges, held, invented, SEED)
    records = [r for r in records if r["metadata"]["set"] in ("unanswerable", "arithmetic")]
    rng = random.Random(SEED)
    for record, sample in zip(records, as_samples(tmp_path, records), strict=True):
        if sample.target:
            assert right(sample, record["metadata"]["worked"]), record["metadata"]["worked"]
            assert not right(sample, record["metadata"]["worked"] + " 123456")
            continue
        bridge = names[record["metadata"]["bridge"]]
        template = rng.choice(load_phrases(sample.language).decline)
        assert right(sample, say(template, bridge, sample.language)), sample
        made_up = rng.choice(sample.rivals)
        assert not right(sample, made_up)
    assert {r["metadata"]["language"] for r in records} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_values_around_the_target_are_wrong(language: str, tmp_path: Path) -> None:
    """Every pair in the world such as Plymouth and New Plymouth, London and Londonderry."""
    every = load_bridges()
    records = [
        record
        for record in write_facts(every, every, random.Random(SEED), 1)
        if record["metadata"]["language"] == language
    ]
    seen, fooled, missed = set(), [], []
    for sample in as_samples(tmp_path, records):
        phrases = load_phrases(language).attributes[sample.attribute]
        around = [
            bridge
            for bridge in every
            if (text := value(bridge, sample.attribute, language))
            and text != sample.target
            and sample.target.lower() in text.lower()
            and not text.isdigit()
            and text.lower() not in sample.question.lower()
        ]
        for bridge in around:
            wrong = value(bridge, sample.attribute, language) or ""
            seen.add((sample.target, wrong))
            said = [say(t, bridge, language, sample.attribute) for t in phrases.answer]
            lies = (wrong, f"{sample.target} {wrong}", f"{wrong}, {sample.target}", *said)
            fooled += [(sample.target, lie) for lie in lies if right(sample, lie)]
            missed += [sample.target] if not right(sample, sample.target) else []
    assert len(seen) >= 10
    assert fooled == []
    assert missed == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_specification(language: str, tmp_path: Path) -> None:
    records = write_spec_questions(language, SEED)
    samples = as_samples(tmp_path, records)
    targets = {s.id: s.target for s in samples}
    rng = random.Random(SEED)
    assert load_specification().entities
    for sample in samples:
        assert right(sample, f"{sample.target}"), sample
        assert right(sample, f"{sample.question[:-1]} {sample.target}."), sample
        same = [s for s in samples if s.attribute == sample.attribute and s.target != sample.target]
        if not same:
            continue
        other = rng.choice(same)
        low, own = targets[other.id].lower(), sample.target.lower()
        if low not in own and low not in sample.question.lower():
            assert not right(sample, targets[other.id]), (sample, other)
            assert not right(sample, f"{sample.target}, {targets[other.id]}"), (sample, other)
