"""The chat page in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fledge.client.echo import Echo
from fledge.client.open import open_model
from fledge.core.errors import FledgeError
from fledge.core.types import Message
from pico_model import CONTEXT, write_pico_model

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='hacked'\"> <b>bold</b>"


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


def test_a_long_conversation_goes_on_without_its_oldest_turns(
    browser: Any, start: Any, tmp_path: Path
) -> None:
    running = start(open_model(str(write_pico_model(tmp_path / "pico"))))
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    sent: list[Any] = []
    page.on("request", lambda r: sent.append(r.post_data_json) if r.method == "POST" else None)
    page.goto(running.url)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Brief.")
    page.get_by_label("Most tokens in an answer").fill("5")
    page.get_by_role("button", name="Done").click()
    note = f"earlier turns left out: the model reads at most {CONTEXT} tokens"
    assert note not in ask(page, "bridge 0").text_content()
    for number in range(1, 8):
        answer = ask(page, f"bridge {number}")
        assert answer.get_by_role("alert").count() == 0
        assert "5 tokens" in answer.text_content()
    assert note in answer.text_content()
    assert page.locator(".message").count() == 16, "all is shown"
    last = sent[-1]["messages"]
    assert (last[0]["role"], last[0]["content"]) == ("system", "Brief.")
    assert last[1]["role"] == "user"
    assert last[1]["content"] != "bridge 0"
    assert last[-1] == {"role": "user", "content": "bridge 7"}
    assert len(sent) < 8 + 8, "what did not fit before is not tried again"
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Language").select_option("zh-Hans")
    page.get_by_role("button", name="完成").click()
    page.get_by_text(f"模型最多读 {CONTEXT} 个词元").last.wait_for()
    page.get_by_role("button", name="新对话").click()
    page.get_by_role("button", name="设置").click()
    page.get_by_label("语言").select_option("en")
    page.get_by_role("button", name="Done").click()
    assert "left out" not in ask(page, "bridge").text_content()
    refused = ask(page, "bridge " * CONTEXT)
    assert str(CONTEXT) in refused.get_by_role("alert").text_content()
    context.close()


def test_a_server_started_anew_with_another_model_is_asked_by_its_name(page: Any, url: str) -> None:
    page.get_by_text("pico-echo").wait_for()
    asked: list[str] = []

    def chat(route: Any) -> None:
        asked.append(route.request.post_data_json["model"])
        if asked[-1] == "another":
            body = route.request.post_data_json | {"model": "pico-echo"}
            route.continue_(post_data=body)
        else:
            error = {"message": "no such model", "code": "model_not_found"}
            route.fulfill(status=404, json={"error": error})

    page.route("**/v1/chat/completions", chat)
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": "another"}]}))
    assert "You said: hello" in ask(page, "hello").text_content()
    assert asked == ["pico-echo", "another"]
    page.get_by_text("another", exact=True).wait_for()
    page.unroute("**/v1/models")
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": "third"}]}))
    page.unroute("**/v1/chat/completions")
    assert "no model 'third'" in ask(page, "again").text_content(), "one more try, not for ever"


def test_a_change_of_language_does_not_freeze_the_answer(page: Any) -> None:
    page.get_by_label("Message").fill("long")
    page.keyboard.press("Enter")
    page.get_by_text("word5 ").wait_for()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Language").select_option("zh-Hans")
    seen = len(page.locator(".message.assistant .body").text_content())
    page.wait_for_function(
        "seen => document.querySelector('.message.assistant .body').textContent.length > seen + 50",
        arg=seen,
    )
    page.get_by_role("button", name="完成").click()
    page.get_by_role("button", name="停止").click()


def test_a_reload_before_the_answer_keeps_the_question(page: Any) -> None:
    page.route("**/v1/chat/completions", lambda route: None)  # never answered
    page.get_by_label("Message").fill("is it there?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").wait_for()
    page.unroute("**/v1/chat/completions")
    page.reload()
    page.get_by_text("is it there?").wait_for()
    assert "broke off" in page.get_by_role("alert").text_content()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("You said: is it there?").wait_for()
    assert page.locator(".message").count() == 2
