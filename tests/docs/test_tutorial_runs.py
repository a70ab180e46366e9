"""Every command and every piece of Python in the tutorial runs, on a run made small."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks, shell_commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TUTORIAL = ROOT / "docs" / "tutorial.md"
HOW_TO = ROOT / "docs" / "how-to.md"
SMALL = """\
name = "bridges"
[samples]
bridges = 8
pages_per_bridge = 4
unanswerable_questions = 6
arithmetic_questions = 6
[corpus]
[tokenizer]
vocab_size = 600
[tokens]
[pretrain]
depth = 1
context = 128
tokens = 40_000
compile = false
[sft]
steps = 4
compile = false
[evals]
limit = 4
max_new_tokens = 8
validation_tokens = 2000
"""

NOT_HERE = ("make", ".", "python", "curl")
"""Set up before, or need what a test does not have."""

INTERACTIVE = ("chat", "serve", "doctor")
"""Commands tested on their own."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipes, made small, where the demo has run."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (folder / "recipes" / "bridges.toml").write_text(SMALL, encoding="utf-8")
    done = _run(["fledge", "run", "recipes/bridges.toml"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        shell=False,
    )


def _lines(page: Path) -> Iterator[str]:
    for block in blocks(page):
        if block.kind == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield line


def test_shell_lines_of_the_tutorial(place: Path) -> None:
    ran = 0
    for line in _lines(TUTORIAL):
        words = line.split()
        if words[0] in NOT_HERE or (words[0] == "fledge" and words[1] in INTERACTIVE):
            continue
        done = _run(["bash", "-c", f"set -o pipefail; {line}"], place)
        truncated = "| head" in line and done.returncode == 141  # head has read enough
        assert done.returncode == 0 or truncated, f"{line}\n{done.stderr}"
        assert done.stdout or "fledge run" in line, line
        ran += 1
    assert ran >= 10


def test_python_of_the_tutorial(place: Path) -> None:
    ran = 0
    for block in blocks(TUTORIAL):
        if block.kind != "python" or "import duckdb" in block.text:
            continue
        done = _run([sys.executable, "-c", block.text], place)
        assert done.returncode == 0, f"tutorial.md:{block.line}\n{done.stderr}"
        assert done.stdout, f"tutorial.md:{block.line} printed nothing"
        ran += 1
    assert ran >= 4


def test_every_path_of_the_run_that_is_named_exists(place: Path) -> None:
    named = set()
    for page in (TUTORIAL, ROOT / "README.md", ROOT / "README.zh.md"):
        text = page.read_text(encoding="utf-8")
        for quote in "`\"' \n":
            text = text.replace(quote, " ")
        named |= {word.rstrip(".,:;)") for word in text.split() if word.startswith("runs/bridges")}
    missing = [name for name in sorted(named) if not list(place.glob(name.rstrip("/")))]
    assert len(named) > 10
    assert missing == []


def test_engine_from_python(place: Path) -> None:
    [code] = [block.text for block in blocks(HOW_TO) if "load_engine" in block.text]
    done = _run([sys.executable, "-c", code], place)
    assert done.returncode == 0, done.stderr


def test_openai_client(place: Path) -> None:
    """The section "Serve behind an API key": keys, server, client."""
    [code] = [block.text for block in blocks(HOW_TO) if "import OpenAI" in block.text]
    keys = next(line for line in _lines(HOW_TO) if line.startswith("python -c"))
    assert _run(["bash", "-c", keys], place).returncode == 0
    line = next(line for line in _lines(HOW_TO) if line.startswith("fledge serve"))
    words = line.replace("0.0.0.0", "127.0.0.1").replace("--port 8000", "--port 0").split()
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name(words[0])), *words[1:]],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        [url] = re.findall(r"http://[\d.:]+/v1", server.stdout.readline())
        key = (place / "keys.txt").read_text(encoding="utf-8").strip()
        for old, new in (("http://127.0.0.1:8000/v1", url), ("YOUR KEY", key)):
            assert old in code
            code = code.replace(old, new)
        done = _run([sys.executable, "-c", code], place)
        assert done.returncode == 0, done.stderr
        refused = _run([sys.executable, "-c", code.replace(key, "wrong")], place)
        assert "AuthenticationError" in refused.stderr
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_own_documents_stage_by_stage(place: Path) -> None:
    """The section "Run one stage alone", then the questions and the compressor."""
    texts = place / "my" / "folder"
    texts.mkdir(parents=True)
    for number in range(40):
        words = f"Report {number}: the deck of span {number * 7} was inspected in {1950 + number}. "
        more = "Cracks were measured with a gauge and their widths were noted on the drawing."
        (texts / f"report-{number}.txt").write_text(words * 2 + more * (number % 3 + 1), "utf-8")
    (place / "held-out.txt").write_text("The deck was inspected once more.\n", encoding="utf-8")
    examples = [block.text for block in blocks(HOW_TO) if block.kind == "json"]
    (place / "my.jsonl").write_text(examples[0] * 3, encoding="utf-8")
    (place / "my-questions.jsonl").write_text(examples[1], encoding="utf-8")
    small = " --set compile=false --set context=64"
    steps = {"pretrain": " --set steps=2", "sft": " --set steps=2 --set held_out=0"}
    alone = [line for line in _lines(HOW_TO) if " out/" in line]
    assert [line.split()[1] for line in alone] == [
        "corpus", "tokenizer", "tokens", "pretrain", "sft",
    ]  # fmt: skip

    for line in alone:
        door = line.split()[1]
        line += small + steps[door] if door in steps else ""
        done = _run(["bash", "-c", line], place)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    for line in _lines(HOW_TO):
        if line.startswith("fledge eval"):
            line = re.sub(r"runs/documents\S*", "out/sft", line)
            done = _run(["bash", "-c", line], place)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            assert done.stdout
    assert (place / "answers.jsonl").is_file()


def test_every_shell_block_is_a_command_line() -> None:
    """No stray text in a block that readers copy."""
    known = {"fledge", "make", ".", "python", "curl", "xz", "gzip", "head", "tail", "cat"}
    for page in (TUTORIAL, HOW_TO):
        for block in blocks(page):
            if block.kind == "sh":
                used = {Path(words[0]).name for words in shell_commands(block)}
                assert used <= known | {""}, f"{page.name}:{block.line}"
