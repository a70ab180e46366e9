"""Pages and WARC files for the tests of curation."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence

PLACES = ["Ashford", "Brindle", "Carrow", "Dunmore", "Elmstead", "Farley", "Grantley", "Holloway"]
THINGS = ["granite", "timber", "iron", "brick", "limestone", "oak", "slate", "concrete", "copper"]
DEEDS = ["carried", "repaired", "painted", "measured", "inspected", "widened", "praised", "sold"]
PEOPLE = ["the mason", "a ferryman", "the council", "her sister", "an engineer", "the miller"]
WHEN = ["in spring", "after the flood", "before the war", "every autumn", "at night", "in 1887"]


def prose(seed: int, sentences: int = 14) -> str:
    """English prose that differs from seed to seed."""
    rng = random.Random(seed)
    parts = []
    for _ in range(sentences):
        subject, deed, thing = rng.choice(PEOPLE), rng.choice(DEEDS), rng.choice(THINGS)
        parts.append(
            f"{subject.capitalize()} {deed} the {thing} of {rng.choice(PLACES)} "
            f"{rng.choice(WHEN)}, and {rng.choice(PEOPLE)} {rng.choice(DEEDS)} it with "
            f"{rng.randrange(2, 99)} pieces of {rng.choice(THINGS)} from {rng.choice(PLACES)}."
        )
    return " ".join(parts)


def article(title: str, text: str, *, extra: str = "", head: str = "") -> str:
    """An HTML page with navigation, an advertisement, a cookie notice and a footer around text."""
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n"))
    links = "".join(f'<li><a href="/{i}">Section {i}</a></li>' for i in range(9))
    return (
        f"<!DOCTYPE html><html><head><title>{title} | The Site</title>{head}</head><body>"
        f'<nav><ul>{links}</ul></nav><div class="cookie-banner">We use cookies on this site.</div>'
        f'<article><h1>{title}</h1>{paragraphs}{extra}</article><div class="ad">Buy shoes!</div>'
        f"<footer><p>Copyright 2024 The Site</p></footer></body></html>"
    )


def response(url: str, body: bytes, content_type: str = "text/html; charset=utf-8") -> bytes:
    """One uncompressed WARC response record."""
    http = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % content_type.encode()
    block = http + body
    head = (
        "WARC/1.1\r\nWARC-Type: response\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2024-03-01T06:00:00Z\r\n"
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def warc(pages: Sequence[tuple[str, str]], *, packed: bool = True) -> bytes:
    """A WARC file of (url, html) pages, one gzip member per record when ``packed``."""
    records = [response(url, page.encode()) for url, page in pages]
    return b"".join(gzip.compress(record, mtime=0) if packed else record for record in records)
