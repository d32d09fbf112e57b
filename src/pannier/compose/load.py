"""The way in: compose files and an environment -> a `Project` and the warnings to show.

Pure but for reading files; runs in the CLI, where the files are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pannier.base.errors import NotFound
from pannier.compose.convert import text
from pannier.compose.dotenv import read_env_file
from pannier.compose.interpolation import Interpolator
from pannier.compose.merging import extend_services, merge
from pannier.compose.model import Project
from pannier.compose.projects import (
    check_project_name,
    read_project,
    without_missing_dependencies,
)
from pannier.compose.source import Map, read_file
from pannier.compose.validation import unsupported_keys, validate

_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asks for.

    Args:
        directory: where the command was typed.
        environment: the caller's variables; COMPOSE_FILE, COMPOSE_PROJECT_NAME and
            COMPOSE_PROFILES count as in Docker.
        files: compose files; none means to look for one here and in the parents.
        env_files: instead of ``.env`` beside the first file.
        project_directory: instead of the first file's directory.
        name: instead of the name in the file or the directory's.
        profiles: active profiles.
    """

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = ()
    env_files: Sequence[Path] = ()
    project_directory: Path | None = None
    name: str = ""
    profiles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    project: Project
    warnings: list[str]


def load(wish: Wish) -> Loaded:
    """Read, merge, check and resolve.

    Raises:
        NotFound: a file is missing.
        ComposeError: a file cannot be used; says file, line and key.
    """
    files = find_files(wish)
    base = (wish.directory / (wish.project_directory or files[0].parent)).resolve()
    variables = _variables(wish, base)
    interpolator = Interpolator(variables)
    warnings: list[str] = []
    trees = [_read(path, interpolator, warnings) for path in files]
    merged = trees[0]
    for tree in trees[1:]:
        merged = merge(merged, tree)
    merged = extend_services(merged)
    validate(merged)
    name = _project_name(wish, variables, merged, base)
    if name != variables.get("COMPOSE_PROJECT_NAME"):
        # The name may be used in the file itself, and is known only now.
        merged = _named_again(files, {**variables, "COMPOSE_PROJECT_NAME": name}, merged)
    profiles = [*wish.profiles, *_words(variables.get("COMPOSE_PROFILES", ""))]
    project = read_project(merged, name, base, variables, profiles)
    project = msgspec.structs.replace(project, files=[str(path) for path in files])
    unset = [
        f'The "{n}" variable is not set. Defaulting to a blank string.'
        for n in interpolator.unset
        if n != "COMPOSE_PROJECT_NAME"
    ]
    return Loaded(without_missing_dependencies(project), unset + warnings)


def find_files(wish: Wish) -> list[Path]:
    """The compose files that are meant.

    Raises:
        NotFound: none here and none above.
    """
    named = list(wish.files)
    if not named and wish.environment.get("COMPOSE_FILE"):
        separator = wish.environment.get("COMPOSE_PATH_SEPARATOR") or ":"
        named = [Path(part) for part in wish.environment["COMPOSE_FILE"].split(separator)]
    if named:
        return [wish.directory / path for path in named]
    start = wish.directory / (wish.project_directory or "")
    for directory in (start, *start.resolve().parents):
        found = next((directory / n for n in _FILES if (directory / n).is_file()), None)
        if found:
            overrides = [directory / n for n in _OVERRIDES if (directory / n).is_file()]
            return [found, *overrides[:1]]
    raise NotFound(
        "no compose file found in this directory or above it",
        hint="write a compose.yaml, or name a file with -f",
    )


def _variables(wish: Wish, base: Path) -> dict[str, str]:
    paths = [wish.directory / path for path in wish.env_files]
    if not paths and (base / ".env").is_file():
        paths = [base / ".env"]
    variables: dict[str, str] = {}
    for path in paths:
        found = read_env_file(path, {**variables, **wish.environment})
        variables |= {key: value for key, value in found.items() if value is not None}
    return {**variables, **wish.environment}


def _read(path: Path, interpolator: Interpolator, warnings: list[str]) -> Map:
    tree = read_file(path)
    filled = interpolator.tree(tree)
    assert isinstance(filled, Map)
    validate(filled)
    if "version" in filled:
        warnings.append(f"{path}: the attribute 'version' is obsolete and is ignored")
    warnings += [
        f"{mark}: {key}: not supported yet, ignored" for mark, key in unsupported_keys(filled)
    ]
    return filled


def _named_again(files: Sequence[Path], variables: Mapping[str, str], merged: Map) -> Map:
    texts = [path.read_text(encoding="utf-8") for path in files]
    if not any("COMPOSE_PROJECT_NAME" in content for content in texts):
        return merged
    interpolator = Interpolator(variables)
    trees = [_read(path, interpolator, []) for path in files]
    merged = trees[0]
    for tree in trees[1:]:
        merged = merge(merged, tree)
    return extend_services(merged)


def _project_name(wish: Wish, variables: Mapping[str, str], tree: Map, base: Path) -> str:
    given = wish.name or variables.get("COMPOSE_PROJECT_NAME") or text(tree.get("name") or "")
    if given:
        return check_project_name(given)
    plain = re.sub(r"[^a-z0-9_-]", "", base.name.lower()).lstrip("_-")
    return check_project_name(plain or "default")


def _words(listed: str) -> list[str]:
    return [word.strip() for word in listed.split(",") if word.strip()]
