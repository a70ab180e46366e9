"""How the model reads: tokens a text needs, and where it is cut."""

from __future__ import annotations

from typing import Any

from fledge.report.gather import RunFiles
from fledge.report.html import Html, element, join, term
from fledge.report.svg import bars
from fledge.report.words import count, language


def tokenizer_section(run: RunFiles) -> Html | None:
    """Bytes per token and a few sentences cut into their tokens."""
    stage = run.stage("tokenizer")
    report = stage.json("report.json") if stage else None
    if not isinstance(report, dict):
        return None
    density = [
        (language(code), value, f"{value:.2f}")
        for code, value in report.get("bytes_per_token", {}).items()
    ]
    return join(
        element("p", f"Byte-level BPE with {count(report.get('vocab_size', 0))} tokens."),
        element("h3", term("Bytes per token on held-out text, more is better", "每词元字节数")),
        bars(density, colour=3),
        element("h3", term("How it cuts text", "切分示例")),
        element("p", "One colour, one token. A narrow block is a further token of the character"
                " before it: its bytes are not yet one token.", class_="quiet"),
        [_example(example) for example in report.get("examples", [])],
    )  # fmt: skip


def _example(example: dict[str, Any]) -> Html:
    """A text, its tokens in turning colours; further tokens of one character are narrow blocks."""
    text, pieces, end = str(example["text"]), [], 0
    for number, (token, start, stop) in enumerate(example["tokens"]):
        if start > end:
            pieces.append(text[end:start])
        shown = text[max(start, end) : stop]
        look = f"token t{number % 5}" + ("" if shown else " part")
        visible = shown.replace("\n", "⏎\n")
        pieces.append(element("span", visible, class_=look, title=f"token {token}"))
        end = max(end, stop)
    note = f"{language(example['lang'])}: {len(example['tokens'])} tokens"
    note += f", {len(text.encode('utf-8', 'replace'))} bytes"
    return element(
        "figure",
        element("figcaption", note),
        element("div", pieces, class_="tokens", lang=example["lang"]),
    )
