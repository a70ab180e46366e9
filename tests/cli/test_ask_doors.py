"""fledge ask and fledge rag at the command line: contracts, pages, calibration, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fledge.cli.main import main
from pico_model import write_pico_model

NAMES = ("Aber", "Brock", "Corve", "Dunst", "Elwick", "Farrow", "Glenn", "Hythe")
TEXTS = {
    f"{name.lower()}{i}.txt": f"The {name}ford{i} Bridge stands in the north."
    f" The {name}ford{i} Bridge opened in {1900 + i}. Its railing is grey."
    for i, name in enumerate(NAMES * 5)
}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("ask")
    (work / "texts").mkdir()
    for name, text in TEXTS.items():
        (work / "texts" / name).write_text(text, encoding="utf-8")
    build = ["index", "build", "--input", str(work / "texts"), "--out", str(work / "index")]
    with pytest.raises(SystemExit) as ended:
        main([*build, "--embedder", "none"])
    assert ended.value.code == 0
    return work


QUESTION = "When was the Aberford0 Bridge opened?"


def test_ask_answers_in_the_contracts_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "ask", folder / "index", QUESTION, "--json")
    told = json.loads(out)
    assert code == 0
    assert told.keys() == {"answer", "supported", "citations"}
    assert told["supported"] is True
    first = told["citations"][0]
    assert first["quote"] == "The Aberford0 Bridge opened in 1900."
    text = TEXTS[Path(first["path"]).name]
    assert text[first["start"] : first["end"]] == first["quote"]
    assert first["marker"] in told["answer"]


def test_ask_for_people_with_its_trace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "ask", folder / "index", QUESTION, "--trace", "--sentences", 1, "-k", 2
    )
    assert code == 0
    first, second = out.splitlines()
    assert first == "The Aberford0 Bridge opened in 1900. [1]"
    assert second.startswith("[1] ")
    assert "aber0.txt: “The Aberford0 Bridge opened in 1900.”" in second
    assert "support" in err
    assert "rerank" in err


def test_ask_says_what_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ask", folder / "index", "Who wrote the Odyssey?", "--json")
    told = json.loads(out)
    assert (code, told["supported"], told["citations"]) == (0, False, [])
    code, out, _ = run(
        capsys, "ask", folder / "index", "谁写了奥德赛？", "--strategy", "window", "--json"
    )
    assert json.loads(out)["answer"] == "您的文档中没有答案。"


def test_ask_with_a_model_that_knows_nothing_shows_nothing_made_up(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_pico_model(tmp_path / "pico", context=192)
    code, out, _ = run(
        capsys, "ask", folder / "index", QUESTION, "--model", model, "--threshold", 0, "--json"
    )
    told = json.loads(out)
    assert code == 0
    for citation in told["citations"]:
        text = TEXTS[Path(citation["path"]).name]
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    assert told["supported"] == bool(told["citations"])


def test_ask_keeps_to_a_filter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = 'path like "*brock*"'
    options = ("--where", where, "--threshold", 0, "--json")
    _, out, _ = run(capsys, "ask", folder / "index", QUESTION, *options)
    paths = {Path(one["path"]).name for one in json.loads(out)["citations"]}
    assert all(path.startswith("brock") for path in paths)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strategy", "windwo"), "did you mean 'window'"),
        (("--strategy", "hyde"), "hyde needs a language model"),
        (("--set", "rerank.hw=none"), "rerank.hw"),
        (("--where", "colour = red"), "colour"),
        (("--reranker", "/no/such/folder"), "no such folder"),
    ],
)
def test_ask_refuses_what_it_cannot_do(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = run(capsys, "ask", folder / "index", QUESTION, *arguments)
    assert code == 2
    assert said in err


def test_ask_without_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "ask", tmp_path, "anything")
    assert code == 2
    assert "holds no index" in err


def test_rag_compare_writes_a_table_and_a_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "q.jsonl"
    rows = [
        {"question": f"When was the {name}ford{i} Bridge opened?", "answer": str(1900 + i)}
        for i, name in enumerate(NAMES)
    ]
    questions.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "out"
    code, text, _ = run(
        capsys, "rag", "compare", "--input", folder / "texts", "--questions", questions, "--out",
        out, "--strategies", "lexical,default,dense", "--ks", "1,2", "--json",
    )  # fmt: skip
    told = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [(row["strategy"], row["k"]) for row in told] == [
        ("lexical", 1), ("lexical", 2), ("default", 1), ("default", 2),
    ]  # fmt: skip
    assert all(row["quality"]["hit@1"]["value"] == 1.0 for row in told)
    assert all(row["citations"]["shown"] == row["citations"]["exact"] for row in told)
    assert json.loads((out / "compare.json").read_text("utf-8"))["left_out"] == {
        "dense": "needs an embedder"
    }
    assert "<svg" in (out / "compare.html").read_text("utf-8")


def test_rag_needle_writes_a_heat_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(
        capsys, "rag", "needle", "--out", tmp_path, "--lengths", "200", "--depths", "0,100",
        "--repeats", 1, "--json",
    )  # fmt: skip
    assert code == 0
    assert [json.loads(line)["share"] for line in text.splitlines()] == [1.0, 1.0]
    assert (tmp_path / "needle.html").read_text("utf-8").count("<rect") == 4
    assert run(capsys, "rag", "needle", "--out", tmp_path, "--lengths", "x")[0] == 2


def test_rag_calibrate_fits_and_ask_uses_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "q.jsonl"
    rows = [
        {"question": f"When was the {name}ford{i} Bridge opened?", "answer": str(1900 + i)}
        for i, name in enumerate(NAMES * 5)
    ]
    questions.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    code, text, _ = run(capsys, "rag", "calibrate", folder / "index", questions, "--json")
    told = json.loads(text)
    assert code == 0
    assert told["support"]["en"][-1]["right_refusals"] > 0.8
    assert (folder / "index" / "calibration.json").is_file()
    supported = 0
    for row in rows[:8]:
        _, out, _ = run(capsys, "ask", folder / "index", row["question"], "--json")
        supported += json.loads(out)["supported"]
    assert supported >= 6
    missing = QUESTION.replace("Aberford0", "Zennorford99")
    _, out, _ = run(capsys, "ask", folder / "index", missing, "--json")
    assert json.loads(out)["supported"] is False


def test_the_strategies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "rag", "strategies")
    assert code == 0
    assert {"lexical", "window", "merge", "hyde"} <= {line.split()[0] for line in out.splitlines()}
