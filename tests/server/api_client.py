"""How tests call a server: the openai package and raw requests."""

from __future__ import annotations

from typing import Any

import httpx
import openai

HELLO: list[Any] = [{"role": "user", "content": "say hello to the bridge"}]


def client(running: Any, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)


def post(running: Any, body: Any, path: str = "/v1/chat/completions", **more: Any) -> Any:
    return httpx.post(running.url + path, json=body, timeout=30, **more)


def chat_body(**more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": HELLO, **more}
