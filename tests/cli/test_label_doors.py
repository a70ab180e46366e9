"""``fledge label``: served, killed, served again, counted and exported."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from fledge.cli.data import command as data
from fledge.cli.label import command
from fledge.core.errors import InputError

PAIRS = [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(3)]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


@contextmanager
def served(*words: object) -> Iterator[tuple[subprocess.Popen[str], httpx.Client, str]]:
    """(the process, a client, the line it said) of ``fledge label serve``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fledge", "label", "serve", *map(str, words), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        with httpx.Client(base_url=found[0], timeout=20) as client:
            yield process, client, line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def prefer(client: httpx.Client, who: str, begins: str) -> bool:
    """Label this one's next task: the answer that begins so is better; whether there was one."""
    task = client.get("/api/next", params={"annotator": who}).json()["task"]
    if task is None:
        return False
    ranked = sorted(task["answers"], key=lambda one: not one["text"].startswith(begins))
    body = {
        "task": task["key"],
        "annotator": who,
        "kind": "rank",
        "ranking": [[one["id"]] for one in ranked],
    }
    assert client.post("/api/label", json=body).status_code == 200
    return True


def told(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(command, [*map(str, words), "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_killed_server_goes_on_and_its_labels_train(pairs: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "labels", tmp_path / "rows"
    with served(pairs, "--out", out) as (process, client, line):
        assert line.startswith("3 tasks to rank, 0 to write, 0 labels: ")
        assert prefer(client, "ann", "good")
        assert prefer(client, "ann", "good")
        process.kill()
        process.wait()
    with served(pairs, "--out", out) as (process, client, line):
        assert ", 2 labels: " in line
        while prefer(client, "ann", "good") or prefer(client, "bob", "good"):
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    stats = told("stats", out)
    assert stats["alpha"] == pytest.approx(1)
    assert stats["kappa"] == [{"annotators": ["ann", "bob"], "pairs": 3, "kappa": pytest.approx(1)}]
    assert stats["annotators"]["bob"]["rank"] == 3
    made = told("export", out, "--out", rows)
    assert made["written"] == {"sft.jsonl": 3, "preferences.jsonl": 3}
    checked = CliRunner().invoke(data, ["check", str(rows / "preferences.jsonl"), "--json"])
    found = json.loads(checked.stdout)
    assert (found["kind"], found["rows"], found["faulty"]) == ("preference", 3, 0)
    best = [json.loads(line) for line in (rows / "sft.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in best] == ["good 0", "good 1", "good 2"]


def test_what_people_read(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "answers": ["a", "b"]}, {"prompt": "w"}]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runner = CliRunner()
    empty = runner.invoke(command, ["stats", str(tmp_path)], catch_exceptions=False).output
    assert empty == "1 tasks to rank, 1 to write, 0 labelled\n"
    from fledge.data.labelling.labels import Label
    from fledge.data.labelling.log import LabelLog

    with LabelLog(tmp_path) as log:
        pair, free = log.tasks
        ids = tuple(pair.by_id)
        for who, ranking in (("ann", ((ids[0],), (ids[1],))), ("bob", (ids,))):
            log.add(Label(task=pair.key, annotator=who, kind="rank", ranking=ranking, seconds=2))
        log.add(Label(task=free.key, annotator="ann", kind="skip"))
    said = runner.invoke(command, ["stats", str(tmp_path)], catch_exceptions=False).output
    assert re.search(r"ann +1 +0 +1 +2\.0", said)
    assert "Krippendorff's alpha  0.000" in said
    assert "Cohen's kappa  0.000  ann and bob, 1 pairs" in said
    assert "ties  0.500" in said
    out = runner.invoke(command, ["export", str(tmp_path), "--out", str(tmp_path / "rows")]).output
    assert "0 pairs tied, 1 pairs without a majority, 1 tasks without a label" in out
    assert (tmp_path / "rows" / "preferences.jsonl").read_text() == ""


def test_faulty_input_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "t.jsonl"
    bad.write_text('{"prompt": "q", "answers": ["one"]}\n')
    words = ["serve", str(bad), "--out", str(tmp_path / "out"), "--port", "0"]
    with pytest.raises(InputError, match=r"t.jsonl:1: 'answers' must be"):
        CliRunner().invoke(command, words, catch_exceptions=False)
    with pytest.raises(InputError, match=r"holds no tasks.jsonl"):
        CliRunner().invoke(command, ["stats", str(tmp_path)], catch_exceptions=False)
