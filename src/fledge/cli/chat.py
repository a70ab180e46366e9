"""``fledge chat``: a conversation in the terminal."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from fledge.cli.adapters import adapted
from fledge.cli.inspection import as_table, names_of
from fledge.cli.progress import terminal_progress
from fledge.cli.sampling import sampling_of, sampling_options
from fledge.client.open import open_model
from fledge.client.room import stream_what_fits
from fledge.core.config import nearest
from fledge.core.errors import FledgeError, InputError
from fledge.core.files import write_jsonl
from fledge.core.protocols import ChatModel, Delta, Reply, Sampling
from fledge.core.types import Message
from fledge.engine.chain.settings import Settings

HELP = """\
/new          start a new conversation
/undo         take back the last question and its answer
/retry        ask the last question again
/set K V      change a setting, such as /set temperature 0.8; /set shows them
/inspect      show how each token of the last answer was drawn (a model on disk)
/save FILE    write the conversation as one line of JSONL (OpenAI messages)
/help         show this
/quit         leave (so does Ctrl-D)
Ctrl-C stops an answer."""


@click.command("chat")
@click.option("--model", "spec", required=True, metavar="DIR|URL", help="A folder, or …/v1.")
@click.option("--system", default="", metavar="TEXT", help="Instructions before the conversation.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="Holds the key of a URL.")
@click.option("--adapter", metavar="DIR", help="A LoRA adapter of the model (PEFT's layout).")
@sampling_options
def command(
    spec: str, system: str, api_key_file: Path | None, adapter: str | None, **options: Any
) -> int:
    """Chat with a model; /help lists what else you can type."""
    key = read_keys(api_key_file)[0] if api_key_file else ""
    model = adapted(open_model(spec, api_key=key, progress=terminal_progress()), adapter)
    chat = _Chat(model, sampling_of(options), system)
    warn_if_untaught(model)
    if chat.interactive:
        with suppress(ImportError):  # some Pythons are built without it
            import readline  # noqa: F401  (line editing for input())
        click.echo(f"{model.name}: ask something; /help for more", err=True)
    return chat.run()


def warn_if_untaught(model: ChatModel) -> None:
    """Say so when a model never learnt to answer."""
    from fledge.client.local import LocalModel

    if isinstance(model, LocalModel) and not model.engine.chats:
        click.echo(
            f"note: {model.name} was not fine-tuned on conversations; it continues texts", err=True
        )


def read_keys(path: Path) -> tuple[str, ...]:
    """The API keys in a file, one a line; raises InputError when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--api-key-file {path}: {error}", remedy="check the file") from None
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise InputError(f"--api-key-file {path} holds no key", remedy="write one a line")
    return keys


SETTABLE: dict[str, Callable[[str], Any]] = {
    "max_new_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": lambda text: None if text in ("", "none") else int(text),
    "lookup": int,
}
"""What ``/set`` changes, and how its text is read."""


class _Chat:
    """The loop: a line in, an answer out.  ``messages`` is the conversation so far."""

    def __init__(self, model: ChatModel, sampling: Sampling, system: str) -> None:
        self.interactive = sys.stdin.isatty()
        self._model = model
        self._sampling = sampling
        self._system = system
        self.messages: list[Message] = []
        self._new()

    def run(self) -> int:
        """Until /quit or the end of input; the exit code."""
        interrupts = 0
        while True:
            try:
                line = self._line()
            except EOFError:
                return 0
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts == 2:
                    return 130
                click.echo("\n(/quit leaves, and so does another Ctrl-C)", err=True)
                continue
            interrupts = 0
            if line.startswith("/"):
                if not self._command(line):
                    return 0
            elif line.strip():
                self._turn(line)

    def _line(self) -> str:
        """The next line; raises EOFError at the end."""
        return input("> ") if self.interactive else input()

    def _command(self, line: str) -> bool:
        """Obey a line that begins with a slash; whether to go on."""
        word, _, rest = line.strip().partition(" ")
        if word == "/quit":
            return False
        if word == "/new":
            self._new()
            click.echo("(a new conversation)", err=True)
        elif word == "/undo":
            self._undo()
        elif word == "/retry":
            question = self._undo()
            if question:
                self._turn(question)
        elif word == "/set":
            self._set(rest.strip())
        elif word == "/inspect":
            self._inspect()
        elif word == "/save":
            self._save(rest.strip())
        elif word == "/help":
            click.echo(HELP, err=True)
        else:
            click.echo(f"{word} is unknown; /help lists what there is", err=True)
        return True

    def _new(self) -> None:
        self.messages = [Message(role="system", content=self._system)] if self._system else []

    def _undo(self) -> str:
        """Take back the last turn; its question."""
        places = [i for i, message in enumerate(self.messages) if message.role == "user"]
        if not places:
            click.echo("(nothing has been asked)", err=True)
            return ""
        question = self.messages[places[-1]].content
        del self.messages[places[-1] :]
        click.echo("(taken back)", err=True)
        return question

    def _set(self, words: str) -> None:
        """Change one setting, or show all."""
        name, _, value = words.partition(" ")
        if not name:
            for key in SETTABLE:
                click.echo(f"{key:20} {getattr(self._sampling, key)}", err=True)
            return
        if name not in SETTABLE:
            click.echo(f"{name} is no setting; {nearest(name, list(SETTABLE))}", err=True)
            return
        try:
            changed = replace(self._sampling, **{name: SETTABLE[name](value)})
            Settings.of(changed)
        except (ValueError, FledgeError) as error:
            click.echo(f"{name} {value}: {error}", err=True)
            return
        self._sampling = changed
        click.echo(f"({name} is {getattr(changed, name)})", err=True)

    def _inspect(self) -> None:
        """Draw the last answer again, and show how: greedy or with a seed it is the same."""
        from fledge.client.local import LocalModel

        places = [i for i, message in enumerate(self.messages) if message.role == "user"]
        if not isinstance(self._model, LocalModel):
            click.echo("/inspect needs a model on disk", err=True)
        elif not places:
            click.echo("(nothing has been asked)", err=True)
        else:
            engine, prompt = self._model.engine, self._model.prompt(self.messages[: places[-1] + 1])
            settings = replace(Settings.of(self._sampling), inspect=True)
            if not settings.greedy and settings.seed is None:
                click.echo("(drawn anew: without a seed no two draws agree)", err=True)
            *_, last = engine.stream(prompt, settings, adapter=self._model.adapter)
            assert last.generation is not None
            Console(stderr=True).print(as_table(last.generation, names_of(engine.tokenizer)))

    def _save(self, name: str) -> None:
        path = Path(name)
        if not name or path.exists():
            why = f"{path} exists already" if name else "/save needs the name of a file"
            click.echo(f"{why}: write /save FILE", err=True)
            return
        try:
            write_jsonl(path, [{"messages": [message.to_openai() for message in self.messages]}])
        except OSError as error:
            click.echo(f"cannot write {path}: {error.strerror}", err=True)
            return
        click.echo(f"(saved to {path})", err=True)

    def _turn(self, question: str) -> None:
        """Ask, show the answer as it comes, remember both; a question that failed is forgotten."""
        asked = [*self.messages, Message(role="user", content=question)]
        try:
            text = self._answer(asked)
        except FledgeError as error:
            if not self.interactive:
                raise
            click.echo(f"{error}  (/new starts a new conversation)", err=True)
            return
        self.messages = [*asked, Message(role="assistant", content=text)]

    def _answer(self, asked: list[Message]) -> str:
        """The answer; after Ctrl-C what there is of it."""
        text = ""
        stream: Iterator[Delta] = iter(())
        try:
            fitted = stream_what_fits(self._model, asked, self._sampling)
            stream = fitted.deltas
            if fitted.left_out:
                _note_left_out(fitted.context)
            for delta in stream:
                text += delta.text
                click.echo(harmless(delta.text), nl=False)
                sys.stdout.flush()
                if delta.reply is not None:
                    _note(delta.reply)
        except KeyboardInterrupt:
            getattr(stream, "close", lambda: None)()
            click.echo(" (stopped)", nl=False, err=True)
        click.echo()
        return text


def _note_left_out(context: int | None) -> None:
    why = "they do not fit" if context is None else f"the model reads at most {context} tokens"
    click.echo(f"(earlier turns left out: {why})", err=True)


def _note(reply: Reply) -> None:
    if reply.finish_reason == "length":
        click.echo(f" (cut off after {reply.usage.completion_tokens} tokens)", nl=False, err=True)


def harmless(text: str) -> str:
    """``text`` without control characters, with which a model could command the terminal."""
    return "".join(
        "\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text
    )
