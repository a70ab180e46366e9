"""An index asked the ladder's questions: right, declined, and quoted to the character."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fledge.core.files import read_json, read_jsonl, write_jsonl
from fledge.core.protocols import Delta, Reply, Sampling, Silent, Usage
from fledge.core.types import Message
from fledge.evals.grounded import measure_grounding
from fledge.index.config import IndexConfig
from fledge.index.embed import open_embedder
from fledge.index.folder import build_index
from fledge.rag.grounding import opened

TEXTS = {
    "humber.txt": "The Humber Bridge crosses an estuary. The Humber Bridge opened in 1981."
    " Its main span is 1,410 metres long.",
    "zhaozhou.txt": "赵州桥位于河北省。赵州桥由李春设计。主拱跨度为37.02米。",
    **{f"other{i}.txt": f"Ledger {i} lists the price of oats and hay." for i in range(40)},
}


def sample(name: str, question: str, target: str, language: str = "en") -> dict[str, object]:
    metadata = {"set": name, "language": language, "attribute": "a", "bridge": "b"}
    asked = [{"role": "user", "content": question}]
    return {"id": f"{name}/{question}", "input": asked, "target": target, "metadata": metadata}


def index_of(tmp_path: Path) -> tuple[Path, Path]:
    """An index of ``TEXTS`` without vectors, and an empty folder for sets."""
    texts, sets = tmp_path / "texts", tmp_path / "sets"
    texts.mkdir()
    sets.mkdir()
    for name, text in TEXTS.items():
        (texts / name).write_text(text, encoding="utf-8")
    config = IndexConfig(input=[str(texts)], embedder="none")
    build_index(config, tmp_path / "index", open_embedder("none"))
    return tmp_path / "index", sets


def test_an_index_is_measured(tmp_path: Path) -> None:
    index, sets = index_of(tmp_path)
    questions = {
        "facts_en": [("When did the Humber Bridge open?", "1981", "en")],
        "facts_zh_hans": [("赵州桥是谁设计的？", "李春", "zh-Hans")],
        "unanswerable": [
            ("When did the Quagmire Viaduct open?", "", "en"),
            ("榆树坡大桥是谁设计的？", "", "zh-Hans"),
        ],
    }
    for name, rows in questions.items():
        write_jsonl(sets / f"{name}.jsonl", (sample(name, *row) for row in rows))
    with opened(index) as ground:
        figures = measure_grounding(ground, sets, tmp_path / "out", Silent())
    assert figures == {
        "ground.facts_en": 1.0,
        "ground.facts_zh": 1.0,
        "ground.unanswerable": 1.0,
        "ground.over_refusal": 0.0,
        "ground.citations_exact": 1.0,
    }
    (row,) = read_jsonl(tmp_path / "out" / "facts_en.jsonl")
    assert row["answer"] == "The Humber Bridge opened in 1981."
    summary = read_json(tmp_path / "out" / "summary.json")
    assert json.dumps(summary["tasks"]["unanswerable"]).count("declined") == 1


class Reader:
    """Says when the first passage's bridge opened, and makes a year up without one."""

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        found = re.search(r"opened in (\d+)", messages[-1].content)
        year = found[1] if found else "1066"
        return Reply(
            text=f"The Humber Bridge opened in {year}.",
            finish_reason="stop",
            usage=Usage(prompt_tokens=1, completion_tokens=1),
        )

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        reply = self.chat(messages, sampling)
        yield Delta(text=reply.text, reply=reply)


def test_a_model_is_asked_with_and_without_the_documents(tmp_path: Path) -> None:
    index, sets = index_of(tmp_path)
    unseen = tmp_path / "questions.jsonl"
    write_jsonl(unseen, [sample("unseen", "When did the Humber Bridge open?", "1981")])
    beyond = [("When did the Quagmire Viaduct open?", ""), ("Who paid for the oats?", "")]
    write_jsonl(sets / "unanswerable.jsonl", (sample("unanswerable", *row) for row in beyond))
    with opened(index, model=Reader()) as ground:
        figures = measure_grounding(ground, sets, tmp_path / "out", Silent(), unseen=unseen)
    assert figures == {
        "ground.unanswerable": 1.0,
        "ground.unanswerable_read": 0.5,  # 1066 is borne out by nothing; Humber's 1981 is
        "ground.unseen": 1.0,
        "ground.unseen_read": 1.0,
        "ground.unseen_alone": 0.0,
        "ground.citations_exact": 1.0,
    }
    (row,) = read_jsonl(tmp_path / "out" / "unseen_read.jsonl")
    assert row["answer"] == "The Humber Bridge opened in 1981."
