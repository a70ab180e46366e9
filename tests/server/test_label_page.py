"""The labelling page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fledge.data.labelling.labels import Label, counting
from fledge.data.labelling.log import LabelLog, read_labels
from fledge.data.labelling.tasks import LabelTask, gathered, parse_tasks
from fledge.server.labelling import LabelConfig, create_label_app

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='hacked'\"> <b>bold</b>"
ROWS = [
    {"prompt": EVIL, "answers": ["yes", EVIL]},
    {"prompt": "Order these", "answers": ["a", "b", "c"]},
    {"prompt": "Write this"},
    {"prompt": "Second pair", "answers": ["left", "right"]},
]
WEB = Path(__file__).parents[2] / "src" / "fledge" / "server" / "web"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LabelLog]:
    tasks = gathered(task for row in ROWS for task in parse_tasks(row, "here"))
    with LabelLog(tmp_path, tasks) as opened:
        yield opened


@pytest.fixture
def page(browser: Any, start_app: Any, log: LabelLog) -> Iterator[Any]:
    config = LabelConfig(guidelines="# Rules\n<i>Be fair.</i>", api_keys=("sesame",))
    url = start_app(create_label_app(log, config)).url
    context = browser.new_context(locale="en-GB", viewport={"width": 320, "height": 640})
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        lambda said: wrong.append(said.text) if "status of 401" not in said.text else None,
    )
    opened.goto(url)
    yield opened
    context.close()
    assert wrong == []


def kept(log: LabelLog, tmp_path: Path) -> dict[str, Label]:
    """The prompt of a task -> the label that counts."""
    labels = counting(read_labels(tmp_path))
    return {log.by_key[task].prompt[-1].content: label for (task, _), label in labels.items()}


def texts(task: LabelTask, label: Label) -> list[list[str]]:
    return [[task.by_id[one][0].content for one in group] for group in label.ranking]


def test_a_whole_session_by_keys(page: Any, log: LabelLog, tmp_path: Path) -> None:
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Done").click()
    page.get_by_text("needs an API key").wait_for()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Done").click()

    page.get_by_text("0 done, 4 left").wait_for()
    assert page.get_by_text("Which answer is better?").is_visible()
    assert page.locator("#prompt .body").text_content() == EVIL
    assert page.locator("#task img, #task b, #guidelines i").count() == 0
    assert page.title() == "fledge label"
    assert "<i>Be fair.</i>" in page.locator("#guidelines").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    shown = page.locator(".answer .body").all_text_contents()
    page.keyboard.press("2")
    page.get_by_text("1 done, 3 left").wait_for()
    first = kept(log, tmp_path)[EVIL]
    task = log.by_key[first.task]
    assert texts(task, first) == [[shown[1]], [shown[0]]]
    assert (first.annotator, len(first.shown)) == ("Ann", 2)

    page.keyboard.press("u")
    page.get_by_text("0 done, 4 left").wait_for()
    assert kept(log, tmp_path) == {}
    assert page.locator(".answer .body").all_text_contents() == shown
    page.keyboard.press("0")
    page.get_by_text("1 done, 3 left").wait_for()
    assert len(kept(log, tmp_path)[EVIL].ranking) == 1

    shown = page.locator(".answer .body").all_text_contents()
    page.keyboard.press("3")
    page.get_by_text("Place 1").wait_for()
    page.keyboard.press("u")
    page.get_by_text("Place 1").wait_for(state="detached")
    page.keyboard.press("2")
    page.keyboard.press("3")
    page.get_by_text("2 done, 2 left").wait_for()
    order = kept(log, tmp_path)["Order these"]
    assert texts(log.by_key[order.task], order) == [[shown[1]], [shown[2]], [shown[0]]]

    page.get_by_label("Your answer").fill("My own 1 answer")
    page.reload()
    page.get_by_text("2 done, 2 left").wait_for()
    box = page.get_by_label("Your answer")
    assert box.input_value() == "My own 1 answer", "a reload keeps the draft and the name"
    page.get_by_label("Note").fill("s0u")
    box.press("Control+Enter")
    page.get_by_text("3 done, 1 left").wait_for()
    written = kept(log, tmp_path)["Write this"]
    assert (written.text, written.note, written.kind) == ("My own 1 answer", "s0u", "write")

    page.keyboard.press("s")
    page.get_by_text("Nothing is left").wait_for()
    assert kept(log, tmp_path)["Second pair"].kind == "skip"
    assert "sesame" not in page.evaluate("JSON.stringify({...localStorage})")
    page.screenshot(path=str(tmp_path / "done.png"))


def test_a_held_key_and_a_double_click_label_once(page: Any, log: LabelLog, tmp_path: Path) -> None:
    page.get_by_label("Your name").fill("Ann")
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Done").click()
    page.get_by_text("0 done, 4 left").wait_for()
    page.get_by_role("button", name="Answer 1 is better").dblclick()
    page.get_by_text("1 done, 3 left").wait_for()
    page.keyboard.down("s")
    page.get_by_text("2 done, 2 left").wait_for()
    page.keyboard.down("s")
    page.keyboard.up("s")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Language").select_option("zh-Hant")
    page.get_by_role("button", name="完成").click()
    page.get_by_text("已完成 2，剩餘 2").wait_for()
    page.get_by_role("button", name="略過").wait_for()
    assert len(kept(log, tmp_path)) == 2


def test_every_language_says_everything() -> None:
    text = (WEB / "label" / "words.js").read_text(encoding="utf-8")
    parts = re.split(r"^  (?:en|\"zh-Han[st]\"): \{$", text, flags=re.MULTILINE)[1:]
    words = [re.findall(r"^    (\w+): ", part, re.MULTILINE) for part in parts]
    assert len(words) == 3
    assert words[0] == words[1] == words[2]
    page = (WEB / "label" / "index.html").read_text(encoding="utf-8")
    used = set(re.findall(r'data-(?:text|label|title|placeholder)="(\w+)"', page))
    script = (WEB / "label" / "label.js").read_text(encoding="utf-8")
    assert used | set(re.findall(r"(?<!/)\bwords\.(\w+)", script)) == set(words[0])
