"""What the pages say is there, is there: files, links, commands, options, recipe keys."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from doc_pages import (
    PAGES,
    READMES,
    ROOT,
    anchors,
    blocks,
    fledge_words,
    links,
    shell_commands,
    spans,
    without_comments,
)

from fledge.cli.main import fledge as doors
from fledge.cli.stages import KINDS
from fledge.core.config import Config, parse_config
from fledge.core.recipe import apply_override, load_recipe
from fledge.data.sifting_config import SiftingConfig
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.rejection import RejectionConfig
from fledge.index.config import IndexConfig
from fledge.tune.embedder_config import EmbedderConfig, MineConfig

LINES = [found for page in PAGES for found in fledge_words(page)]
TOP = ("recipes", "docs", "src", "tests", "benchmarks", ".ci")
"""Folders of the repository: a path that begins with one is a claim that it exists."""

DATA_KINDS: dict[str, type[Config]] = {
    "clean": SiftingConfig,
    "synthesize": SynthesisConfig,
    "sample": RejectionConfig,
}
"""Configs of the commands of ``fledge data``, which are no stages."""

OTHER_KINDS: dict[str, type[Config]] = {**KINDS, "index": IndexConfig}
"""Configs of commands, stages or not."""

EMBED_KINDS: dict[str, type[Config]] = {"train": EmbedderConfig, "mine": MineConfig}
"""Configs of the commands of ``fledge embed``."""

STAGE_OF = {"sample": "samples"}
"""Commands of one stage that are not called as their stage."""


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "build_reference", ROOT / "docs" / "build_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_reference_is_what_the_code_says() -> None:
    builder = _builder()
    fresh = builder.render()
    stale = builder.PAGE.read_text(encoding="utf-8") != fresh
    assert not stale, "docs/reference.md is stale: run  python docs/build_reference.py"


def test_every_option_in_the_reference_has_a_meaning() -> None:
    rows = [row for row in _builder().render().splitlines() if row.startswith("| `--")]
    silent = [row for row in rows if re.search(r"\|\s*\|$", row)]
    assert rows
    assert silent == []


def test_every_recipe_key_in_the_reference_has_a_meaning() -> None:
    silent = [
        f"{table}.{key}"
        for table, kind in KINDS.items()
        for key, field in kind.model_fields.items()
        if not field.description
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    texts = spans(page) + [block.text for block in blocks(page) if block.kind == "sh"]
    words = {word.strip("'\",:()") for text in texts for word in text.split()}
    named = {word for word in words if word.split("/")[0] in TOP and "/" in word}
    missing = [word for word in sorted(named) if not list(ROOT.glob(word.rstrip("/")))]
    assert missing == []


@pytest.mark.parametrize(("where", "words", "typed"), LINES, ids=[line[0] for line in LINES])
def test_command_lines_are_accepted(where: str, words: list[str], typed: bool) -> None:
    path, command, rest = _resolve(words)
    values, given = _parse(command, rest)
    if typed and not (isinstance(command, click.Group) or "--help" in words):
        absent = [p.name for p in command.params if p.required and values.get(p.name or "") is None]
        assert not absent, f"{where}: {absent} missing"
    for option in command.params:
        if option.name in given and isinstance(
            option.type, click.Choice | click.types.IntParamType
        ):
            _convert(option, values[option.name], where)
    if given and values.get("overrides"):
        _check_overrides(path, words, values["overrides"])


def _resolve(words: list[str]) -> tuple[tuple[str, ...], click.Command, list[str]]:
    """(names of the command, the command, the words left); raises AssertionError for no command."""
    command: click.Command = doors
    path: list[str] = []
    rest = [word for word in words if word != "--debug"]
    while isinstance(command, click.Group) and rest and re.match("[a-z]", rest[0]):
        context = click.Context(command)
        child = command.get_command(context, rest[0])
        assert child is not None, f"no command {rest[0]!r} after {path}"
        command, path, rest = child, [*path, rest[0]], rest[1:]
    return tuple(path), command, rest


def _parse(command: click.Command, words: list[str]) -> tuple[dict[str, object], set[str]]:
    """What click's own parser makes of the words: raises click.UsageError for unknown options."""
    context = click.Context(command, info_name=command.name)
    values, _, order = command.make_parser(context).parse_args(list(words))
    given = {param.name for param in order if values.get(param.name or "") not in (None, (), [])}
    return values, {name for name in given if name}


def _convert(option: click.Parameter, value: object, where: str) -> None:
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, str) and not re.fullmatch(r"[A-Z_]+", one):  # a placeholder
            assert option.type.convert(one, option, None) is not None, where


def _check_overrides(path: tuple[str, ...], words: list[str], overrides: object) -> None:
    """Every ``--set`` names a key and holds a value that the config takes."""
    assert isinstance(overrides, list)
    if path == ("run",):
        recipe = next(word for word in words if word.endswith(".toml"))
        load_recipe(ROOT / recipe, KINDS, overrides)
        return
    values: dict[str, object] = {}
    for override in overrides:
        apply_override(values, override)
    if path[0] == "index":
        values["input"] = ["docs"]
    parse_config(_kind_of(path), values, " ".join(path))


def _kind_of(path: tuple[str, ...]) -> type[Config]:
    """The config that ``--set`` of a command changes."""
    below = {"data": DATA_KINDS, "embed": EMBED_KINDS}.get(path[0])
    return OTHER_KINDS[STAGE_OF.get(path[0], path[0])] if below is None else below[path[1]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_in_prose_exist(page: Path) -> None:
    """Inline ``--set key=…`` and ``stage.key``."""
    for span in spans(page):
        for override in re.findall(r"--set ((?:'[^']*'|\S)+)", span):
            key, _, value = override.partition("=")
            if key.isupper() or key == "STAGE.KEY":
                continue
            stage, _, name = key.partition(".")
            if not name:  # of a command that runs one stage
                kinds = (*OTHER_KINDS.values(), *DATA_KINDS.values(), *EMBED_KINDS.values())
                assert any(_has(kind, key) for kind in kinds), f"{page.name}: {span}"
            else:
                values: dict[str, object] = {}
                apply_override(values, f"{name}={value.strip(chr(39))}")
                assert stage in KINDS, f"{page.name}: {span}"
                parse_config(KINDS[stage], values, f"{page.name}: {span}")
        stage, _, name = span.partition(".")
        if stage in KINDS and re.fullmatch(r"[a-z_.]+", name) and _is_key(name):
            assert _has(KINDS[stage], name), f"{page.name}: {span}"


def _is_key(name: str) -> bool:
    """Not a file name, figure or reason such as corpus.toml, evals.jsonl."""
    files = {"toml", "jsonl", "json", "md", "partial"}
    figures = {"reward", "reward_before", "length", "truncated", "kl"}
    return name not in files | figures and not name.startswith(
        (
            *("extraction_f1", "language_accuracy", "pii_", "near_duplicate"),
            *("bytes_per_token", "bits_per_byte", "loss", "probe_"),
            *("accuracy", "prefers", "margin", "reward_", "brier", "calibration_error"),
            *("facts_", "unanswerable", "over_refusal", "citations_exact", "unseen"),
        )
    )


def _has(kind: type[Config], key: str) -> bool:
    """Whether a config has a (dotted) key."""
    name, _, rest = key.partition(".")
    field = kind.model_fields.get(name)
    if field is None or not rest:
        return field is not None
    inner = field.annotation
    return isinstance(inner, type) and issubclass(inner, Config) and _has(inner, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_in_toml_blocks_are_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.kind == "toml":
            path = tmp_path / "recipe.toml"
            path.write_text(block.text, encoding="utf-8")
            assert load_recipe(path, KINDS).stages, f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile_and_import_what_exists(page: Path) -> None:
    for block in blocks(page):
        if block.kind != "python":
            continue
        tree = ast.parse(block.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fledge"):
                module = importlib.import_module(node.module or "")
                absent = [name.name for name in node.names if not hasattr(module, name.name)]
                assert absent == [], f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    typed = [
        words for block in blocks(page) if block.kind == "sh" for words in shell_commands(block)
    ]
    named = [words[1] for words in typed if words[0] == "make"]
    named += [span.split()[1] for span in spans(page) if span.startswith("make ")]
    assert set(named) <= targets


def test_readmes_show_the_same_code() -> None:
    english, chinese = ([without_comments(block) for block in blocks(page)] for page in READMES)
    assert english == chinese
    assert english


def test_readmes_name_the_same_commands_and_figures() -> None:
    def named(page: Path) -> list[str]:
        marks = re.findall(r"@@[A-Z_]+@@", page.read_text(encoding="utf-8"))
        return sorted(marks + [span for span in spans(page) if re.search(r"[a-z]", span)])

    english, chinese = (set(named(page)) for page in READMES)
    assert english == chinese


def test_no_figure_is_left_to_fill_in_outside_the_readmes() -> None:
    others = [page for page in PAGES if page not in READMES]
    open_marks = [page.name for page in others if "@@" in page.read_text(encoding="utf-8")]
    assert open_marks == []
