"""The chat page in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fledge.client.echo import Echo
from fledge.core.errors import FledgeError
from fledge.core.types import Message

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<img src=x onerror=\"document.title='hacked'\"> <b>bold</b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        yield launched
        launched.close()


def script(messages: Any) -> str:
    asked: Message = messages[-1]
    if asked.content == "fail":
        raise FledgeError("the model is out of paper", remedy="bring some")
    if asked.content == "long":
        return " ".join(f"word{number}" for number in range(400))
    if asked.content == "count":
        return f"{len(messages)} messages, the first from {messages[0].role}"
    return f"You said: {asked.content}\n第二行。"


@pytest.fixture(scope="module")
def url(start: Any) -> str:
    return str(start(Echo(script, name="pico-echo", pause=0.01)).url)


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    context = browser.new_context(locale="en-GB")
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        lambda said: (
            wrong.append(said.text)
            if said.type == "error" and "status of" not in said.text
            else None
        ),
    )
    opened.goto(url)
    yield opened
    context.close()
    assert wrong == []


def ask(page: Any, question: str) -> Any:
    """Send ``question``; the finished answer's element."""
    page.get_by_label("Message").fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Send").wait_for()
    return page.locator(".message.assistant").last


def test_a_message_is_answered_as_a_stream(page: Any, tmp_path: Path) -> None:
    page.get_by_text("pico-echo").wait_for()
    page.get_by_label("Message").fill("long")
    page.keyboard.press("Enter")
    body = page.locator(".message.assistant .body")
    page.get_by_text("word9").wait_for()
    early = len(body.text_content())
    page.get_by_text("word60").wait_for()
    assert 0 < early < len(body.text_content())
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped").wait_for()
    assert "word399" not in body.text_content()
    page.screenshot(path=str(tmp_path / "stopped.png"))
    assert (tmp_path / "stopped.png").stat().st_size > 5000


def test_what_is_said_is_text_and_never_html(page: Any) -> None:
    answer = ask(page, EVIL)
    assert EVIL in answer.locator(".body").text_content()
    assert page.locator(".message img, .message b").count() == 0
    assert page.title() == "pico-echo – fledge"


def test_history_system_prompt_regenerate_and_new_chat(page: Any) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Most tokens in an answer").fill("3")
    page.get_by_role("button", name="Done").click()
    assert "You said" in ask(page, "hello").text_content()
    assert "cut off" in page.locator(".message.assistant").last.text_content()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Defaults").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_role("button", name="Done").click()
    expected = "4 messages, the first from system"
    assert expected in ask(page, "count").text_content()
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("button", name="Send").wait_for()
    assert page.locator(".message").count() == 4
    assert expected in page.locator(".message.assistant").last.text_content()
    page.reload()
    assert page.locator(".message").count() == 4, "a reload keeps the conversation"
    page.get_by_role("button", name="New chat").click()
    assert page.locator(".message").count() == 0
    assert "2 messages" in ask(page, "count").text_content()


def test_errors_are_shown_plainly_and_can_be_retried(page: Any) -> None:
    answer = ask(page, "fail")
    assert "the model is out of paper; bring some" in answer.text_content()
    assert answer.get_by_role("alert").count() == 1
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Send").wait_for()
    assert page.locator(".message").count() == 2
    said = ask(page, "count").locator(".body").text_content()
    assert said.startswith("1 messages"), "the failed question is not part of the conversation"


def test_enter_of_an_input_method_does_not_send(page: Any) -> None:
    box = page.get_by_label("Message")
    box.fill("qiao")
    for how in ("isComposing: true", "keyCode: 229"):
        box.evaluate(
            f"box => box.dispatchEvent(new KeyboardEvent('keydown',"
            f" {{key: 'Enter', bubbles: true, cancelable: true, {how}}}))"
        )
    assert page.locator(".message").count() == 0
    box.press("Shift+Enter")
    assert box.input_value() == "qiao\n"
    assert page.locator(".message").count() == 0


@pytest.mark.parametrize(
    ("locale", "language", "send"),
    [
        ("de-DE", "en", "Send"),
        ("zh-CN", "zh-Hans", "发送"),
        ("zh-TW", "zh-Hant", "傳送"),
        ("zh-HK", "zh-Hant", "傳送"),
    ],
)
def test_the_language_follows_the_browser(
    browser: Any, url: str, locale: str, language: str, send: str
) -> None:
    context = browser.new_context(locale=locale)
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name=send).wait_for()
    assert page.locator("html").get_attribute("lang") == language
    context.close()


def test_the_language_can_be_switched_and_is_remembered(page: Any) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Language").select_option("zh-Hant")
    page.get_by_role("button", name="完成").click()
    page.reload()
    page.get_by_role("button", name="傳送").wait_for()
    assert page.locator(".examples button").first.text_content() == "金門大橋是哪一年通車的？"
    page.locator(".examples button").first.click()
    page.get_by_text("You said: 金門大橋是哪一年通車的？").wait_for()


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Any, url: str) -> None:
    context = browser.new_context(locale="en-GB", viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(url)
    ask(page, "a" * 300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for name in ("New chat", "Settings", "Send"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320
    context.close()


def test_a_lost_server_is_named(browser: Any, start: Any) -> None:
    running = start(Echo(name="gone"))
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(running.url)
    page.get_by_text("gone").wait_for()
    stopper = threading.Thread(target=running.stop)
    stopper.start()
    stopper.join()
    assert "cannot be reached" in ask(page, "hello?").text_content()
    context.close()


def test_a_key_is_asked_for_and_used(browser: Any, start: Any) -> None:
    running = start(Echo(["granted"], name="locked"), api_keys=("sesame",))
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(running.url)
    assert "needs an API key" in ask(page, "hello?").text_content()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Done").click()
    page.get_by_text("locked").wait_for()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("granted").wait_for()
    assert "sesame" not in page.evaluate("JSON.stringify({...localStorage})")
    context.close()
