"""Citations on the chat page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grounded_library import script, small_library

from fledge.client.echo import Echo
from fledge.server.app import create_app
from fledge.server.config import ServerConfig

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [320, 1000])
def test_an_answer_shows_what_it_rests_on(
    browser: Any, start_app: Callable[..., Any], tmp_path: Path, width: int
) -> None:
    with small_library(tmp_path) as library:
        running = start_app(create_app(Echo(script), ServerConfig(), library))
        context = browser.new_context(locale="en-GB", viewport={"width": width, "height": 700})
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.goto(running.url)
        page.get_by_label("Message").fill("When was the Humber Bridge opened?")
        page.keyboard.press("Enter")
        sources = page.get_by_role("list", name="Sources")
        sources.wait_for()
        page.get_by_role("button", name="Regenerate").wait_for()
        assert page.locator(".message.assistant .body").text_content() == (
            "The Humber Bridge opened in 1981. [1]"
        )
        assert sources.locator("li").count() == 1
        assert sources.locator(".marker").text_content() == "[1]"
        assert sources.locator("cite").text_content().endswith("humber.txt")
        quote = sources.locator("blockquote")
        assert quote.text_content() == "The Humber Bridge opened in 1981."
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.reload()
        assert page.get_by_role("list", name="Sources").locator("li").count() == 1
        page.screenshot(path=str(tmp_path / "sources.png"))
        context.close()
