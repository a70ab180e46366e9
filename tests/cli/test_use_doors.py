"""The doors that use a model, as commands: generate, chat, serve."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from fledge.cli.chat import harmless
from fledge.cli.main import main
from fledge.client.remote import RemoteModel
from fledge.core.protocols import Sampling
from fledge.core.types import Message
from fledge.engine import Engine, Generation, Token, load_engine
from pico_model import CONTEXT, write_pico_model

FLEDGE = [sys.executable, "-c", "from fledge.cli.main import main; main()"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pico"
    write_pico_model(folder)
    return folder


def fledge(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def generated(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    code, out, _ = fledge(capsys, "generate", *arguments, "--json")
    assert code == 0
    assert out.count("\n") == 1
    row: dict[str, Any] = json.loads(out)
    return row


def test_generate_keeps_its_contract(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = generated(capsys, "--model", run, "--prompt", "桥 bridge", "--max-new-tokens", 7)
    assert list(row) == [
        "text",
        "token_ids",
        "finish_reason",
        "usage",
        "speculation",
        "tokens_per_second",
    ]
    assert list(row["usage"]) == ["prompt_tokens", "completion_tokens"]
    assert row["usage"]["completion_tokens"] == len(row["token_ids"]) == 7
    assert row["finish_reason"] == "length"
    assert row["tokens_per_second"] > 0
    code, out, _ = fledge(
        capsys, "generate", "--model", run, "--prompt", "桥 bridge", "--max-new-tokens", "7"
    )
    assert (code, out) == (0, harmless(row["text"]) + "\n")


def test_generate_answers_or_continues_by_what_the_model_learnt(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_pico_model(tmp_path / "base", stage="pretrain")
    tokenizer = load_engine(base).tokenizer
    for name in ("config.json", "generation_config.json"):
        config = json.loads((base / "model" / name).read_text())
        config["eos_token_id"] = tokenizer.endoftext_id
        (base / "model" / name).write_text(json.dumps(config))
    plain = 1 + len(tokenizer.encode("hello"))
    turns = len(
        tokenizer.encode_chat([{"role": "user", "content": "hello"}], add_generation_prompt=True)
    )
    for model, option, expected in (
        (base, [], plain),
        (base, ["--chat"], turns),
        (run, [], turns),
        (run, ["--no-chat"], plain),
    ):
        row = generated(capsys, "--model", model, "--prompt", "hello", *option)
        assert row["usage"]["prompt_tokens"] == expected


def test_generate_samples_with_a_seed_and_stops(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hot = ["--model", run, "--prompt", "bridge", "--temperature", 1.1, "--top-k", 50]
    one = generated(capsys, *hot, "--seed", 1)
    assert generated(capsys, *hot, "--seed", 1)["text"] == one["text"]
    assert generated(capsys, *hot, "--seed", 2)["text"] != one["text"]
    stop = one["text"][3:5]
    stopped = generated(capsys, *hot, "--seed", 1, "--stop", stop, "--stop", "never")
    assert stopped["text"] == one["text"][: one["text"].find(stop)]
    assert stopped["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "/no/such/model", "--prompt", "x"], "/no/such/model does not exist; check"),
        (["--model", "http://x/v1", "--prompt", "x"], "is a URL; name a model on disk"),
        (["--model", "RUN", "--prompt", "bridge " * 200], f"{CONTEXT}"),
        (["--model", "RUN", "--prompt", "x", "--temperature", "-1"], "temperature = -1.0"),
        (["--model", "RUN", "--prompt", "x", "--top-p", "7"], "top_p = 7.0"),
        (["--model", "RUN", "--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens = 0"),
        (["--model", "RUN"], "--prompt"),
    ],
)
def test_bad_use_of_generate_is_one_line_and_exit_2(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    filled = [str(run) if argument == "RUN" else argument for argument in arguments]
    code, out, err = fledge(capsys, "generate", *filled)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_broken_checkpoint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = write_pico_model(tmp_path / "run")
    weights = stage / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = fledge(capsys, "generate", "--model", str(stage), "--prompt", "x")
    assert code == 2
    assert "model.safetensors cannot be read" in err
    assert err.count("\n") == 1


def chat(run: Path, lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLEDGE, "chat", "--model", str(run), "--max-new-tokens", "8", *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_chat_remembers_saves_and_begins_anew(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    lines = (
        f"one\ntwo\n/save {first}\n/new\nthree\n/save {second}\n/save {first}\n/what\n/quit\nx\n"
    )
    done = chat(run, lines, "--system", "Be brief.")
    assert done.returncode == 0, done.stderr
    saved = [json.loads(path.read_text())["messages"] for path in (first, second)]
    assert [message["role"] for message in saved[0]] == [
        *("system", "user", "assistant", "user", "assistant"),
    ]
    assert [message["content"] for message in saved[1]][:2] == ["Be brief.", "three"]
    said = [message["content"] for message in saved[0] + saved[1] if message["role"] == "assistant"]
    assert done.stdout == "".join(harmless(text) + "\n" for text in said)
    assert f"{first} exists already" in done.stderr
    assert "/what is unknown" in done.stderr


def test_chat_with_too_much_says_how_much(run: Path) -> None:
    done = chat(run, "bridge " * 200 + "\n")
    assert done.returncode == 2
    assert str(CONTEXT) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_long_chat_goes_on_without_its_oldest_turns(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    questions = [f"bridge {number}" for number in range(8)]
    done = chat(run, "\n".join([*questions, f"/save {path}", "/new", "one", ""]))
    assert done.returncode == 0, done.stderr
    note = f"(earlier turns left out: the model reads at most {CONTEXT} tokens)"
    assert 3 <= done.stderr.count(note) <= 7, "each answer says so, but not the first ones"
    assert note not in done.stderr[done.stderr.index("(a new conversation)") :]
    [saved] = path.read_text().splitlines()
    messages = json.loads(saved)["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == questions, "all is kept"


def test_a_long_chat_with_a_server_goes_on_too(run: Path) -> None:
    lines = "".join(f"bridge {number}\n" for number in range(8))
    local = chat(run, lines)
    with serving(run) as (_, url):
        done = subprocess.run(
            [*FLEDGE, "chat", "--model", url, "--max-new-tokens", "8"],
            input=lines,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == (local.stdout, local.stderr)
    assert f"at most {CONTEXT} tokens" in done.stderr


def test_chat_needs_no_readline(run: Path) -> None:
    code = (
        "import sys; sys.modules['readline'] = None; sys.stdin.isatty = lambda: True;"
        f"from fledge.cli.main import main; main(['chat', '--model', {str(run)!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="/quit\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ask something" in done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_generate_shows_no_control_characters(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    said = "a\x1b[2Jb\x9bc\x7f\n桥"
    made = Generation(text=said, token_ids=(5,), finish_reason="stop", prompt_tokens=1)
    last = Token(id=5, text=said, generation=made)
    monkeypatch.setattr(Engine, "stream", lambda *_, **how: iter([last]))
    code, out, _ = fledge(capsys, "generate", "--model", str(run), "--prompt", "x", *options)
    assert code == 0
    assert not {"\x1b", "\x9b", "\x7f"} & set(out)
    if options:
        assert json.loads(out)["text"] == said
    else:
        assert out == harmless(said) + "\n"


def test_a_model_cannot_command_the_terminal() -> None:
    assert harmless("a\x1b[2Jb\x9b\tc\n桥\x07") == "a\ufffd[2Jb\ufffd\tc\n桥\ufffd"


def read_until(terminal: int, text: str, seconds: float = 40) -> str:
    """What the terminal shows, up to ``text``."""
    shown = ""
    deadline = time.monotonic() + seconds
    while text not in shown:
        assert time.monotonic() < deadline, f"waited for {text!r}, saw {shown!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode("utf-8", "replace")
    return shown


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    run = write_pico_model(tmp_path / "long", context=4000)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*FLEDGE, "chat", "--model", str(run), "--max-new-tokens", "3900", "--stop", "@@@"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        read_until(ours, "> ")
        os.write(ours, b"hello\n")
        read_until(ours, "hello")
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        read_until(ours, "(stopped)")
        os.write(ours, b"/new\n")
        read_until(ours, "a new conversation")
        os.write(ours, b"/quit\n")
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        os.close(ours)


@contextmanager
def serving(run: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running ``fledge serve`` on a free port, and its URL."""
    process = subprocess.Popen(
        [*FLEDGE, "serve", "--model", str(run), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = _pipe(process.stdout).readline()
        assert "http://" in line, _pipe(process.stderr).read()
        yield process, next(word for word in line.split() if word.endswith("/v1"))
    finally:
        process.kill()
        process.communicate()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_answers_and_stops_when_told(run: Path, sent: signal.Signals, code: int) -> None:
    with serving(run) as (process, url), RemoteModel(url) as model:
        assert model.name == "pico-sft"
        messages = [Message(role="user", content="hello")]
        reply = model.chat(messages, Sampling(max_new_tokens=5))
        assert list(model.stream(messages, Sampling(max_new_tokens=5)))[-1].reply == reply
        process.send_signal(sent)
        assert process.wait(timeout=20) == code
        assert "Traceback" not in _pipe(process.stderr).read()


def test_serve_finishes_running_answers_before_it_stops(tmp_path: Path) -> None:
    run = write_pico_model(tmp_path / "long", context=1200)
    with serving(run) as (process, url):
        body = {
            "model": "long-sft",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 300,
            "temperature": 1.0,
            "seed": 5,
        }
        whole = httpx.post(f"{url}/chat/completions", json=body, timeout=60).json()
        with httpx.stream(
            "POST", f"{url}/chat/completions", json=body | {"stream": True}, timeout=60
        ) as response:
            lines = response.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [first, *lines]
        assert "data: [DONE]" in rest
        events = [json.loads(line[6:]) for line in rest if line.startswith("data: {")]
        pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
        assert "".join(pieces) == whole["choices"][0]["message"]["content"]
        assert process.wait(timeout=20) == 0


def test_serve_with_a_key_file(run: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sesame\n\nsecond\n", encoding="utf-8")
    with serving(run, "--api-key-file", str(keys)) as (_, url):
        assert httpx.get(f"{url}/models").status_code == 401
        with RemoteModel(url, api_key="second") as model:
            assert model.name == "pico-sft"
        done = subprocess.run(
            [*FLEDGE, "chat", "--model", url, "--api-key-file", str(keys)],
            input="hello\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_serve_says_what_is_wrong_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n", encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, code, said in (
            ([str(run), "--port", port], 1, f"port {port} on 127.0.0.1 is in use; choose another"),
            (["/no/such/model", "--port", port], 1, "is in use"),
            (["/no/such/model", "--port", "0"], 2, "does not exist; check the path"),
            ([str(run), "--host", "no.such.host.invalid"], 2, "--host no.such.host.invalid"),
            ([str(run), "--port", "99999"], 2, "--port"),
            ([str(run), "--api-key-file", str(tmp_path / "none")], 2, "--api-key-file"),
            ([str(run), "--api-key-file", str(empty)], 2, "holds no key"),
            ([str(run), "--concurrent", "0"], 2, "concurrent = 0"),
        ):
            found, out, err = fledge(capsys, "serve", "--model", *arguments)
            assert (found, out) == (code, "")
            assert said in err
            assert err.count("\n") == 1
