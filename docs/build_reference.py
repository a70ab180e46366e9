"""Writes docs/reference.md: docs/reference.in.md with its marked places filled in from the code.

    python docs/build_reference.py

A place is a line ``<!-- code: NAME -->``, NAME a key of PLACES.  The page says nothing about the
machine or the terminal, so equal code gives equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.routing import Route

import fledge
from fledge.cli.main import DOORS
from fledge.cli.main import fledge as doors
from fledge.cli.stages import STAGES
from fledge.client.echo import Echo
from fledge.core.config import inner_config
from fledge.data.formats import PACKED, READ
from fledge.data.shards import DOCUMENTS, DROPPED
from fledge.data.sifting_config import SiftingConfig
from fledge.data.statistics import STEPS, family
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.rejection import RejectionConfig
from fledge.index.config import IndexConfig
from fledge.rag.retrieval_config import RetrievalConfig
from fledge.server.app import create_app
from fledge.server.config import ServerConfig
from fledge.server.schema import ChatRequest, CompletionRequest, GenerationRequest
from fledge.tokenizer.template import SPECIAL_TOKENS

HERE = Path(__file__).parent
TEMPLATE = HERE / "reference.in.md"
PAGE = HERE / "reference.md"
NOTE = "<!-- Written by docs/build_reference.py from docs/reference.in.md and the code. -->\n\n"

_PLACE = re.compile(r"^<!-- code: ([a-z_]+) -->$", re.MULTILINE)


def render() -> str:
    """The whole page."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return NOTE + _PLACE.sub(lambda found: "\n\n".join(PLACES[found[1]]()), template)


def commands() -> Iterator[str]:
    """A section per command, in the order of ``fledge --help``."""
    context = click.Context(doors, info_name="fledge")
    for name in DOORS:
        command = doors.get_command(context, name)
        if command is not None:
            yield from _command(name, command)


def _command(name: str, command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _command(f"{name} {child.name}", child)
        return
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    words = [f"fledge {name}", *map(_argument, arguments), "[OPTIONS]" if options else ""]
    yield f"### fledge {name}"
    yield f"```text\n{' '.join(filter(None, words))}\n```"
    yield _flowed(command.help or "")
    rows = [(_spelling(option), _given(option), _meaning(name, option)) for option in options]
    yield _table(("option", "default", "meaning"), rows)


def _argument(argument: click.Argument) -> str:
    name = argument.name or "" if argument.metavar is None else argument.metavar
    if not name:
        return ""  # more values of an option, which the option shows
    name = name.upper().removesuffix("...") + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _spelling(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return f"`{names}`"
    if isinstance(option.type, click.Choice):
        kind = "|".join(str(choice) for choice in option.type.choices)
    elif isinstance(option.type, click.Path):
        kind = option.metavar or "PATH"
    else:
        words = {"integer": "N", "integer range": "N", "float": "X", "float range": "X"}
        kind = option.metavar or words.get(option.type.name, "TEXT")
    again = ", repeatable" if option.multiple else ""
    return f"`{names} {kind}`{again}"


def _given(option: click.Option) -> str:
    """The default, where there is one to speak of."""
    if option.required:
        return "required"
    value = option.default
    shown = isinstance(value, str | int | float | Path) and not option.is_flag and value != ""
    return f"`{value}`" if shown else ""


SHARED = {
    "out": "The folder to write.",
    "overrides": "Set one key of the configuration; the value is TOML, or else plain text.",
    "corpus build inputs": "A file, folder or pattern to read.",
    "tokenizer train inputs": "A built corpus, or a file of any readable form.",
    "runs": "The folder that holds run directories.",
    "vocab_size": "Entries in all: special tokens, 256 bytes and merges.",
    "max_new_tokens": "The longest answer, in tokens.",
}
"""Option, or command and option -> what it means, for those without help of their own."""


def _meaning(command: str, option: click.Option) -> str:
    shared = SHARED.get(option.name or "") or SHARED.get(f"{command} {option.name}", "")
    return _flowed(option.help or shared)


def recipe_tables() -> Iterator[str]:
    """A section per table of a recipe, in the order in which stages run."""
    for name, stage in STAGES.items():
        yield f"### [{name}]"
        reads = ", ".join(f"`[{other}]`" for other in stage.reads)
        yield _flowed(stage.config.__doc__ or "") + (f" Reads {reads}." if reads else "")
        yield from _config(stage.config, name)


def data_settings() -> Iterator[str]:
    """A section per command of ``fledge data`` that takes ``--set``."""
    kinds = {"clean": SiftingConfig, "synthesize": SynthesisConfig, "sample": RejectionConfig}
    for name, kind in kinds.items():
        yield f"### data {name} --set"
        yield _flowed(kind.__doc__ or "")
        yield from _config(kind, name)


def index_settings() -> Iterator[str]:
    """What ``fledge index build --set`` takes."""
    yield _flowed(IndexConfig.__doc__ or "")
    yield from _config(IndexConfig, "index")


def retrieval_settings() -> Iterator[str]:
    """What ``fledge ask --set`` takes."""
    yield _flowed(RetrievalConfig.__doc__ or "")
    yield from _config(RetrievalConfig, "retrieval")


def _config(kind: type[BaseModel], place: str) -> Iterator[str]:
    """The keys of a config; configs inside it follow as tables of their own."""
    found = {key: inner_config(field.annotation) for key, field in kind.model_fields.items()}
    inner = {key: config for key, config in found.items() if config is not None}
    yield _table(("key", "type", "default", "meaning"), _fields(kind, without=inner))
    for key, config in inner.items():
        yield f"#### [{place}.{key}]"
        said = kind.model_fields[key].description
        yield _flowed(" ".join(filter(None, (config.__doc__, said))))
        yield from _config(config, f"{place}.{key}")


def _fields(kind: type[BaseModel], without: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """(key, type, default, meaning) of every field."""
    schema = kind.model_json_schema()["properties"]
    return [
        (
            f"`{key}`",
            _type(schema[key]),
            "required"
            if field.is_required()
            else _value(field.get_default(call_default_factory=True)),
            _flowed(field.description or ""),
        )
        for key, field in kind.model_fields.items()
        if key not in without
    ]


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        kinds = [_type(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{v if isinstance(v, str) else json.dumps(v)}`" for v in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items') or {})}"
    bounds = [f"{sign} {schema[name]:,}" for name, sign in _BOUNDS.items() if name in schema]
    return f"{_KINDS.get(schema.get('type', ''), 'object')} {' and '.join(bounds)}".strip()


def _value(value: Any) -> str:
    """A default as TOML writes it; for None the meaning says what is derived."""
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def http_routes() -> Iterator[str]:
    """Methods and paths of the server."""
    rows = [
        (", ".join(sorted((route.methods or set()) - {"HEAD"})), f"`{route.path}`")
        for route in create_app(Echo()).routes
        if isinstance(route, Route)
    ]
    yield _table(("method", "path"), rows)


def chat_fields() -> Iterator[str]:
    """Fields of the requests: those with a meaning, then those only tolerated."""
    heads = ("field", "type", "default", "meaning")
    shared = [row for row in _fields(GenerationRequest) if row[-1]]
    own = {kind: _own(kind) for kind in (ChatRequest, CompletionRequest)}
    yield "Both endpoints:"
    yield _table(heads, shared)
    for kind, rows in own.items():
        yield _flowed(kind.__doc__ or "").removesuffix(".") + ":"
        yield _table(heads, [row for row in rows if row[-1]])
    silent = [row[0] for row in _fields(GenerationRequest) if not row[-1]]
    silent += [row[0] for rows in own.values() for row in rows if not row[-1]]
    yield (
        "Accepted only where they change nothing (absent, null, or their neutral value): "
        f"{', '.join(sorted(set(silent)))}."
    )


def _own(kind: type[BaseModel]) -> list[tuple[str, ...]]:
    return _fields(kind, without=GenerationRequest.model_fields)


def server_limits() -> Iterator[str]:
    """The server's config."""
    yield _table(("key", "type", "default", "meaning"), _fields(ServerConfig))


def document_columns() -> Iterator[str]:
    """Columns of the corpus files."""
    extra = [name for name in DROPPED.names if name not in DOCUMENTS.names]
    yield f"Columns of `documents/`: {_columns(DOCUMENTS)}."
    yield f"`dropped/` adds {', '.join(f'`{name}`' for name in extra)}."


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"`{field.name}` ({field.type})" for field in schema)


def input_kinds() -> Iterator[str]:
    """Extensions that are read."""
    packed = [kind for kind in READ if kind != ".parquet"]  # which packs its columns itself
    yield (
        f"Read by extension: {', '.join(f'`{kind}`' for kind in packed)}, each also with "
        f"{' or '.join(f'`{kind}`' for kind in PACKED)} after it, and `.parquet`."
    )


def special_tokens() -> Iterator[str]:
    """Special tokens with their ids."""
    yield _table(
        ("id", "token"), [(str(i), f"`{token}`") for i, token in enumerate(SPECIAL_TOKENS)]
    )


def drop_reasons() -> Iterator[str]:
    """Reasons found in the source of the rooms that judge documents, by step."""
    found = re.compile(r"""["']([a-z]+\.[a-z_]+)["']""")
    rooms = [Path(fledge.__file__).parent / room for room in ("data", "guard")]
    texts = [path.read_text(encoding="utf-8") for room in rooms for path in room.glob("*.py")]
    words = {word for text in texts for word in found.findall(text)}
    rows = [
        (step, f"`{name}`", ", ".join(f"`{w}`" for w in sorted(words) if family(w) == name))
        for step, families in STEPS
        for name in families
    ]
    yield _table(("step", "family", "reasons"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _flowed(text: str) -> str:
    """A docstring as one line: reStructuredText literals become Markdown's."""
    return " ".join(text.split()).replace("``", "`")


PLACES: dict[str, Callable[[], Iterator[str]]] = {
    "chat_fields": chat_fields,
    "commands": commands,
    "data_settings": data_settings,
    "index_settings": index_settings,
    "retrieval_settings": retrieval_settings,
    "document_columns": document_columns,
    "drop_reasons": drop_reasons,
    "http_routes": http_routes,
    "input_kinds": input_kinds,
    "recipe_tables": recipe_tables,
    "server_limits": server_limits,
    "special_tokens": special_tokens,
}
"""Marked place of the template -> what fills it, paragraph by paragraph."""


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
