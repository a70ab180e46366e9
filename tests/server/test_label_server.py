"""``fledge label serve`` as annotators meet it: the API and hostile input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from fledge.data.labelling.log import LABELS, LabelLog, read_labels
from fledge.data.labelling.tasks import gathered, parse_tasks
from fledge.server.labelling import LabelConfig, create_label_app

ROWS = [
    {"prompt": "Which?", "answers": ["yes", "no"]},
    {"prompt": "Order", "answers": ["a", "b", "c"]},
    {"prompt": "Write"},
]
Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(start_app: Any, tmp_path: Path) -> Iterator[Serve]:
    """``serve(rows, **config)``: a client of a server over these tasks."""
    opened: list[Any] = []

    def begin(rows: list[Any] = ROWS, **config: Any) -> httpx.Client:
        tasks = gathered(task for row in rows for task in parse_tasks(row, "here"))
        log = LabelLog(tmp_path, tasks)
        running = start_app(create_label_app(log, LabelConfig(**config)))
        client = httpx.Client(base_url=running.url, timeout=20)
        opened.extend([client, log._file])
        return client

    yield begin
    for one in opened:
        one.close()


def take(client: httpx.Client, who: str = "ann") -> dict[str, Any]:
    answer = client.get("/api/next", params={"annotator": who})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def give(client: httpx.Client, task: Any, who: str = "ann", **more: Any) -> httpx.Response:
    return client.post("/api/label", json={"task": task["key"], "annotator": who, **more})


def test_from_the_first_task_to_the_last(serve: Serve, tmp_path: Path) -> None:
    client = serve(guidelines="Be *fair*.")
    first = take(client)
    assert (first["done"], first["left"], first["task"]["kind"]) == (0, 3, "rank")
    assert first["task"]["prompt"] == [{"role": "user", "text": "Which?"}]
    assert {one["text"] for one in first["task"]["answers"]} == {"yes", "no"}
    ids = [one["id"] for one in first["task"]["answers"]]
    given = give(
        client, first["task"], kind="rank", ranking=[[ids[1]], [ids[0]]], shown=ids, seconds=2.5
    )
    assert given.json() == {"ok": True}
    assert json.loads((tmp_path / LABELS).read_text())["ranking"] == [[ids[1]], [ids[0]]]
    second = take(client)
    assert give(client, second["task"], kind="skip").status_code == 200
    third = take(client)["task"]
    assert (third["kind"], third["answers"]) == ("write", [])
    assert give(client, third, kind="write", text="Own words.", note="hard").status_code == 200
    assert take(client) == {"task": None, "done": 3, "left": 0}
    progress = client.get("/api/progress").json()
    assert progress["guidelines"] == "Be *fair*."
    assert progress["annotators"]["ann"] == {"rank": 1, "write": 1, "skip": 1, "seconds": 1.2}
    assert give(client, third, kind="undo").status_code == 200
    assert take(client)["task"] == third


def test_annotators_at_the_same_time_get_different_tasks_first(serve: Serve) -> None:
    client = serve(each=1)
    mine, yours = take(client, "ann")["task"], take(client, "bob")["task"]
    assert mine["key"] != yours["key"]
    ids = [one["id"] for one in mine["answers"]]
    assert give(client, mine, "ann", kind="rank", ranking=[ids]).status_code == 200
    assert take(client, "cid")["left"] == 2


def test_many_annotators_at_once_lose_nothing(serve: Serve, tmp_path: Path) -> None:
    client = serve([{"prompt": f"q{n}"} for n in range(6)], each=8)

    def work(who: str) -> None:
        while (task := take(client, who)["task"]) is not None:
            assert give(client, task, who, kind="write", text=f"{who} says").status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [f"annotator {n}" for n in range(8)]))
    assert len(list(read_labels(tmp_path))) == 48


def test_what_is_wrong_is_told_and_not_kept(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    task = take(client)["task"]
    ids = [one["id"] for one in task["answers"]]
    good = {"task": task["key"], "annotator": "ann", "kind": "rank", "ranking": [[ids[0], ids[1]]]}
    for change, said in (
        ({"ranking": [[ids[0]]]}, "every answer"),
        ({"kind": "rate"}, "kind"),
        ({"task": "nothing"}, "no task"),
        ({"annotator": " "}, "name"),
        ({"annotator": "a\nb\x07"}, "name"),
        ({"seconds": -1}, "seconds"),
        ({"stars": 5}, "stars"),
        ({"ranking": "ab"}, "ranking"),
    ):
        refused = client.post("/api/label", json=good | change)
        assert refused.status_code == 400, change
        assert said in refused.json()["error"]["message"]
    # A form of another site's page could send this without being asked.
    simple = client.post(
        "/api/label", content=json.dumps(good), headers={"Content-Type": "text/plain"}
    )
    assert simple.status_code == 400
    assert client.post("/api/label", json=good | {"note": "x" * 1_100_000}).status_code == 413
    assert client.get("/api/next").status_code == 400
    assert client.get("/api/label").status_code == 405
    assert client.get("/api/none").status_code == 404
    assert list(read_labels(tmp_path)) == []
    assert client.post("/api/label", json=good).status_code == 200


def test_a_key_guards_the_tasks_but_not_the_page(serve: Serve) -> None:
    client = serve(api_keys=("sesame",))
    for path in ("/api/next?annotator=ann", "/api/progress"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert client.post("/api/label", json={}).status_code == 401
    for path in ("/", "/label.js", "/label.css", "/words.js", "/style.css", "/storage.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
