"""Personal data: what must be found, and what only looks like it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.data.pii import chinese_id_ok, find_pii, iban_ok, luhn, mask, taiwanese_id_ok
from fledge.guard.secrets import find_secrets

PLANTED = [
    ("EMAIL", "mila.oberon190@mail.river-walk.net"),
    ("EMAIL", "amy.li [at] qq.com"),
    ("PHONE", "+1 415-555-0132"),
    ("PHONE", "(212) 555-0188"),
    ("PHONE", "020 7946 0958"),
    ("PHONE", "+86 21 6213 4567"),
    ("PHONE", "13812345678"),
    ("PHONE", "0912-345-678"),
    ("IP", "192.168.0.17"),
    ("IP", "2001:db8::ff00:42:8329"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "4000006869780188"),
    ("IBAN", "GB82 WEST 1234 5698 7654 32"),
    ("IBAN", "DE89370400440532013000"),
    ("ID", "11010519491231002X"),
    ("ID", "A123456789"),
    ("SSN", "123-45-6789"),
]
FRAMES = ["Write to {} today.", "联系{}。", "({})", "Contact: {}\nand more", "電話：{}，謝謝"]


@pytest.mark.parametrize(("kind", "item"), PLANTED)
@pytest.mark.parametrize("frame", FRAMES)
def test_planted_data_is_found_whole(kind: str, item: str, frame: str) -> None:
    text = frame.format(item)
    hits = find_pii(text)
    assert [(hit.kind, text[hit.start : hit.end]) for hit in hits] == [(kind, item)]


@pytest.mark.parametrize(
    "text",
    [
        "It was built from 1931 to 1937 and is 1,280 m long.",
        "built 1931-1937, opened 1937-05-27, restored 1954 2020 2300",
        "spans of 60 + 120 + 60 m and 1088 1490 1650",
        "clause 4.2.1.3 and section 10.20.30.40 of the code",
        "version 7.25.94.111 of the plan editor",
        "software v1.2.3.4, build 10.0.19041.1",
        "ISBN 978-0-306-40615-7 and ISBN 9780306406157",
        "12:30:45 on 2024-03-01 10:30",
        "card 4111 1111 1111 1112 is not one",
        "serial number 7999 8432 7765 0274",
        "order number 415 555 0132",
        "a scale of 1:500 and 1:25000",
        "110105194912310021 fails its check digit",
        "A123456780 fails as well",
        "IBAN GB82 WEST 1234 5698 7654 33 is wrong",
        "000-12-3456 and 666-12-3456 and 912-34-5678 were never issued",
        "0.5 1.25 2.375 and 10.5",
        "桥长1670米，主跨128米，建于1957年10月15日",
        "see a@b and user@host",
        "¥1234567890 或 NT$ 12345678",
    ],
)
def test_lookalikes_are_left_alone(text: str) -> None:
    assert [(hit.kind, text[hit.start : hit.end]) for hit in find_pii(text)] == []


def test_checksums() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert iban_ok("GB82WEST12345698765432")
    assert chinese_id_ok("11010519491231002X")
    assert not chinese_id_ok("110105194913310029")
    assert taiwanese_id_ok("A123456789")


def test_masking_keeps_the_rest_and_knows_the_places() -> None:
    text = "Ask bob@example.org or 13812345678, not 1957."
    masked, places = mask(text, find_pii(text))
    assert masked == "Ask <EMAIL> or <PHONE>, not 1957."
    assert [masked[place.start : place.end] for place in places] == ["<EMAIL>", "<PHONE>"]


def test_secrets_are_not_reported_twice() -> None:
    text = "postgres://app:hunter2hunter@db.example.org/x and AKIAIOSFODNN7EXAMPLE"
    secrets = find_secrets(text)
    assert [text[hit.start : hit.end] for hit in secrets] == [
        "hunter2hunter",
        "AKIAIOSFODNN7EXAMPLE",
    ]
    hits = find_pii(text, secrets)
    assert all(hit.end <= s.start or hit.start >= s.end for hit in hits for s in secrets)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_hits_are_ordered_and_disjoint(text: str) -> None:
    hits = find_pii(text)
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    assert all(a.end <= b.start for a, b in pairwise(hits))


@given(st.text(alphabet="0123456789 .-:()+@ax", max_size=60))
def test_digits_never_raise(text: str) -> None:
    masked, _ = mask(text, find_pii(text))
    assert isinstance(masked, str)
