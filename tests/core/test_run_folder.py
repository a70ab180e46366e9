"""The run directory: a stage is skipped, continued or begun anew by its key; never half there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fledge.core import Config, InputError, Outcome, StageFolder
from fledge.core.files import read_jsonl, replacing, write_json, write_jsonl
from fledge.core.run import MANIFEST, input_digest, is_current, stage_key


class Work(Config):
    steps: int = 1
    """Steps."""


def key(steps: int = 1, digest: str = "d") -> str:
    return stage_key("work", Work(steps=steps), {"before": digest})


def finish(place: StageFolder, text: str = "result") -> dict[str, object]:
    place.begin(key())
    (place.partial / "out.txt").write_text(text)
    (place.partial / "logs").mkdir(exist_ok=True)
    (place.partial / "logs" / "time.txt").write_text(text * 2)
    return place.finish("work", Work(), {"before": "d"}, Outcome(counts={"n": 1}), 1.5)


def test_key_depends_on_config_inputs_and_name() -> None:
    assert key() == key()
    assert len({key(), key(steps=2), key(digest="e"), stage_key("other", Work(), {})}) == 4


def test_finished_stage_is_found_and_digest_ignores_logs(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    assert not place.finished(key())
    manifest = finish(place)
    assert place.finished(key())
    assert not place.finished(key(steps=2))
    assert not place.partial.exists()
    assert list(manifest["outputs"]) == ["out.txt"]  # type: ignore[call-overload]
    assert input_digest(place.final) == manifest["digest"]


def test_partial_is_continued_only_with_the_same_key(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    place.begin(key())
    (place.partial / "half.txt").write_text("half")
    assert place.resumable(key())
    assert (place.begin(key()) / "half.txt").exists()
    assert not place.resumable(key(steps=2))
    assert not (place.begin(key(steps=2)) / "half.txt").exists()


def test_old_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    finish(place, "old")
    place.begin(key(steps=2))
    assert (place.final / "out.txt").read_text() == "old"
    assert place.finished(key())


def test_seconds_of_interrupted_runs_add_up(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    place.begin(key())
    place.pause(2.0)
    assert finish(place)["seconds"] == 3.5


def test_digest_of_plain_folder_changes_with_content_and_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_text("x")
    first = input_digest(folder)
    (folder / "a").write_text("y")
    second = input_digest(folder)
    (folder / "a").rename(folder / "b")
    assert len({first, second, input_digest(folder)}) == 3


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_jsonl_round_trip_and_error_names_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, [{"a": "桥"}, 2]) == 2
    assert list(read_jsonl(path)) == [{"a": "桥"}, 2]
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(Exception, match=r"rows\.jsonl, line 2"):
        list(read_jsonl(path))


def test_manifest_is_the_last_thing(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    place.begin(key())
    assert not (place.partial / MANIFEST).exists()
    finish(place)
    assert (place.final / MANIFEST).exists()


def test_a_kill_after_the_manifest_loses_nothing(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    finish(place)
    os.replace(place.final, place.partial)  # killed before the rename, the key not yet removed
    write_json(place.partial / "stage.json", {"key": key(), "seconds": 0.0})
    place.recover()
    assert place.finished(key())
    assert not place.partial.exists()
    assert (place.final / "out.txt").read_text() == "result"


def test_a_kill_between_the_renames_brings_the_old_result_back(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    finish(place, "old")
    os.replace(place.final, tmp_path / ".work.old")
    place.recover()
    assert (place.final / "out.txt").read_text() == "old"
    assert not (tmp_path / ".work.old").exists()


def test_leftovers_of_killed_writers_never_become_outputs(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    clean = finish(place)["digest"]
    place.begin(key(steps=2))
    (place.partial / ".out.txt.123.tmp").write_text("half")
    place.begin(key(steps=2))
    assert not list(place.partial.glob(".*.tmp"))
    (place.partial / "out.txt").write_text("result")
    (place.partial / ".late.456.tmp").write_text("half")
    assert place.finish("work", Work(), {}, Outcome(), 1.0)["digest"] == clean


def test_force_continues_only_what_force_began(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    place.begin(key())
    (place.partial / "half.txt").write_text("half")
    assert not place.resumable(key(), forced=True)
    assert not (place.begin(key(), forced=True) / "half.txt").exists()
    (place.partial / "half.txt").write_text("half")
    assert (place.begin(key(), forced=True) / "half.txt").exists()


def test_a_folder_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "work")
    place.final.mkdir()
    (place.final / "thesis.doc").write_text("mine")
    with pytest.raises(InputError, match="not empty and no result of fledge"):
        place.begin(key())
    (place.final / MANIFEST).write_text('{"mine": true}')
    with pytest.raises(InputError, match="no result of fledge"):
        place.begin(key())
    assert (place.final / "thesis.doc").read_text() == "mine"


def test_a_stage_is_stale_when_its_neighbour_changed(tmp_path: Path) -> None:
    first = StageFolder(tmp_path, "one")
    digest = finish(first)["digest"]
    second = StageFolder(tmp_path, "two")
    second.begin(key())
    second.finish("two", Work(), {"one": str(digest)}, Outcome(), 1.0)
    assert is_current(tmp_path, "two")
    first.begin(key(steps=2))
    (first.partial / "out.txt").write_text("changed")
    first.finish("one", Work(), {}, Outcome(), 1.0)
    assert not is_current(tmp_path, "two")
    assert is_current(tmp_path, "one")


class Knobs(Config):
    incidental = frozenset({"workers"})
    steps: int = 1
    """Steps."""
    workers: int = 1
    """Workers."""


def test_fields_that_decide_nothing_are_not_in_the_key() -> None:
    assert stage_key("a", Knobs(workers=2), {}) == stage_key("a", Knobs(), {})
    assert stage_key("a", Knobs(steps=2), {}) != stage_key("a", Knobs(), {})


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone does not exist"):
        input_digest(tmp_path / "gone")
