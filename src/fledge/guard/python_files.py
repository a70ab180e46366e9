"""This Python in, the files out that a bare interpreter needs of it: what a sandbox shows."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path


@dataclass(frozen=True)
class PythonFiles:
    """Where things lie on this machine; all of it is only read."""

    executable: str
    libraries: tuple[str, ...]
    """Folders and files of shared libraries, the system's and Python's."""
    standard: tuple[str, ...]
    """Folders of the standard library."""
    hidden: tuple[str, ...]
    """Folders inside those that belong to whoever installed packages there."""
    packages: dict[str, str]
    """Name -> the file that Python loads for it."""
    package_folders: tuple[str, ...]
    """What the packages consist of."""


def find_python_files(packages: Sequence[str]) -> PythonFiles:
    """The files of the Python that runs, and of those ``packages`` that are installed."""
    executable = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}  # not the environment's
    standard = _existing([sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")])
    hidden = [
        str(path)
        for folder in standard
        for path in (Path(folder) / "site-packages", Path(folder) / "dist-packages")
        if path.is_dir()
    ]
    found: dict[str, str] = {}
    folders: list[str] = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            continue
        found[name] = spec.origin
        place = Path(spec.origin)
        if place.name == "__init__.py":  # a package and the libraries that came with it
            folders += _existing([place.parent, place.parent.with_name(f"{name}.libs")])
        else:
            folders.append(str(place))
    libraries = _existing(_library_places())
    return PythonFiles(str(executable), libraries, standard, tuple(hidden), found, tuple(folders))


def _library_places() -> list[str | Path]:
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    system: list[str | Path] = ["/lib64", "/usr/lib64", "/etc/ld.so.cache"]
    here = [f"/lib/{multiarch}", f"/usr/lib/{multiarch}"]
    if multiarch and any(os.path.isdir(place) for place in here):
        system += here
    else:
        system += ["/lib", "/usr/lib"]
    own = dict.fromkeys([f"{sys.base_prefix}/lib", sysconfig.get_config_var("LIBDIR") or ""])
    return system + [path for folder in own if folder for path in glob(f"{folder}/libpython3*.so*")]


def _existing(paths: Sequence[str | Path]) -> tuple[str, ...]:
    """Those that exist and may be looked up, each once, in order."""
    return tuple(dict.fromkeys(str(path) for path in paths if os.path.exists(path)))
