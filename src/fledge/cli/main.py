"""The command line: finds the door, turns errors into one line and an exit code.

Exit codes: 0 ok, 1 failed, 2 bad usage or input, 130 interrupted (state saved).
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from fledge.cli.together import are_several, number_of_process
from fledge.core.errors import FledgeError

DOORS: dict[str, tuple[str, str, str]] = {
    # command: (section, file in fledge.cli, one line of help)
    "run": ("A whole run", "run", "Run a recipe: raw pages to an assistant."),
    "report": ("A whole run", "report", "Write report.html and report.json of a run."),
    "sample": ("Stages", "sample", "Write the built-in sample world: a messy web and its truth."),
    "corpus": ("Stages", "corpus", "Build clean documents from raw pages; show statistics."),
    "extract": ("Stages", "extract", "Extract the main text of files."),
    "tokenizer": ("Stages", "tokenizer", "Train a tokenizer; show how it reads a text."),
    "tokens": ("Stages", "tokens", "Turn documents into token shards."),
    "pretrain": ("Stages", "pretrain", "Train a model on token shards."),
    "data": ("Stages", "data", "Check, show, convert, clean and make post-training data."),
    "label": ("Stages", "label", "Have people write and rank answers; agreement, export."),
    "sft": ("Stages", "sft", "Fine-tune a model on conversations."),
    "grpo": ("Stages", "grpo", "Train a model by comparing its answers (GRPO, RLOO)."),
    "ppo": ("Stages", "ppo", "Train a model with a critic (PPO)."),
    "honesty": ("Stages", "honesty", "Teach a model to say what it does not know."),
    "reward": ("Stages", "reward", "Train a model that scores answers."),
    "dpo": ("Stages", "dpo", "Learn from preferences: DPO, IPO, KTO, ORPO, SimPO."),
    "embed": ("Stages", "embed", "Train an embedder on pairs of texts; mine negatives; measure."),
    "scale": ("Stages", "scale", "Train a ladder, fit its scaling law, size a budget."),
    "eval": ("Stages", "eval", "Measure a model on tasks or texts."),
    "verify": ("Stages", "verify", "Check model, data and training by closed-form properties."),
    "generate": ("Use a model", "generate", "Continue a prompt or answer a question."),
    "chat": ("Use a model", "chat", "Chat in the terminal."),
    "serve": ("Use a model", "serve", "Serve the OpenAI-compatible API and the chat page."),
    "bench": ("Use a model", "bench", "Measure how fast a model answers on this machine."),
    "index": ("Ground it", "index", "Make documents searchable; update, search, verify."),
    "ask": ("Ground it", "ask", "Answer from your documents, with checked citations."),
    "rag": ("Ground it", "rag", "Compare ways of retrieving, find needles, calibrate."),
    "import": ("Checkpoints", "import_", "Check a checkpoint from anywhere and take it over."),
    "export": ("Checkpoints", "export", "Write a model for transformers or llama.cpp (GGUF)."),
    "sandbox": ("This machine", "sandbox", "Run Python that a model wrote, shut in."),
    "lora": ("Checkpoints", "lora", "Merge adapters into a model, make them, look into them."),
    "doctor": ("This machine", "doctor", "Show what this machine can do and what is missing."),
}


class Doors(click.Group):
    """A group that imports a door's file only when the door is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(DOORS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in DOORS:
            return None
        module = importlib.import_module(f"fledge.cli.{DOORS[cmd_name][1]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, (section, _, line) in DOORS.items():
            sections.setdefault(section, []).append((name, line))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


@click.group(cls=Doors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fledge")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def fledge(debug: bool) -> None:
    """Raise a language model you own: from raw pages to an assistant that can be audited."""


SPINS = "10000"
"""Looks of an idle thread before it sleeps, some 20 µs: the next piece of work comes sooner."""


def _let_threads_wait() -> None:
    """How threads of PyTorch wait for each other, unless the user said so: before its import.

    On a machine that is otherwise idle a short spin makes a training step 11 % faster (measured,
    docs/log.md); beside another busy program it costs 27 %, so there they sleep at once.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy < 0.5 * (os.cpu_count() or 1):
        os.environ["GOMP_SPINCOUNT"] = SPINS
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``fledge`` command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _let_threads_wait()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    signal.signal(signal.SIGTERM, _interrupt)  # docker stop, Slurm: as good as Ctrl-C
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    code = _guarded(arguments, debug=debug)
    if are_several():
        # The threads of exchanges outlive the interpreter's end and may crash in it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _guarded(arguments: Sequence[str], *, debug: bool) -> int:
    """Run the command; the exit code, after one line on stderr for whatever went wrong."""
    try:
        result = fledge.main(args=list(arguments), prog_name="fledge", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except FledgeError as error:
        return _fail(str(error), error.exit_code, debug)
    except click.ClickException as error:
        return _fail(error.format_message(), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        if number_of_process() == 0:
            click.echo("interrupted: the same command goes on where this one stopped", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone: nothing left to tell
        return 1
    except MemoryError:
        return _fail("out of memory; use a smaller batch, context or model", 1, debug)
    except Exception as error:
        if _disk_full(error):
            return _fail(
                f"the disk is full ({error}); free some space and run the same command again",
                1,
                debug,
            )
        if isinstance(error, OSError) and error.filename is not None:
            what = f"{error.filename}: {error.strerror}"
            return _fail(f"{what}; check the path and its permissions", 1, debug)
        if debug:
            traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _fail(
            f"{type(error).__name__}: {error} (at {where.filename}:{where.lineno}); this is a"
            " defect of fledge: run again with --debug and report it",
            1,
            debug=False,
        )


def _disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk; libraries wrap it in their own ways."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        text = str(chain)
        if "No space left on device" in text or "os error 28" in text:
            return True
        if "PytorchStreamWriter failed" in text or "unexpected pos" in text:
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    process = number_of_process()
    click.echo(f"fledge{f' (process {process})' if process else ''}: {message}", err=True)
    return code
