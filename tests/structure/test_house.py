"""The rules of the house that a program can check: floors, sizes, and that every question names its program."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import invitree
from invitree.base.problems import catalog

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("src", "tests", "tools", "bench") for path in (ROOT / folder).rglob("*.py"))
WINGS = ("identity", "sharing", "intake", "imports", "faces")
ROOMS = [path.parent for wing in WINGS for path in sorted((ROOT / "src/invitree" / wing).glob("*/__init__.py"))]
VOCABULARY = {
    "schemas",
    "problems",
    "room",
    "invariants",
    "__init__",
    "store",
    "api",
    "guards",
    "rules",
    "actions",
    "jobs",
    "pages",
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def test_imports_only_go_down() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_files_and_functions_are_short() -> None:
    assert [found for path in FILES for found in too_long(path)] == []


def too_long(path: Path) -> Iterator[str]:
    text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
    if len(text.splitlines()) > LONGEST_FILE:
        yield str(name)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION:
                yield f"{name}: {node.name}"


def module_of(room: Path, *parts: str) -> str:
    return ".".join([*room.relative_to(ROOT / "src").parts, *parts])


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_what_it_promises_in_the_fixed_vocabulary(room: Path) -> None:
    package = importlib.import_module(module_of(room))
    assert package.__doc__
    assert {module.name for module in pkgutil.iter_modules(package.__path__)} | {"__init__"} <= VOCABULARY


def store_functions() -> Iterator[tuple[str, object]]:
    for room in ROOMS:
        try:
            store = importlib.import_module(module_of(room, "store"))
        except ModuleNotFoundError:
            continue
        for name, function in inspect.getmembers(store, inspect.iscoroutinefunction):
            if function.__module__ == store.__name__:
                yield f"{room.name}.{name}", function


def test_every_store_function_names_its_program() -> None:
    found = dict(store_functions())
    assert found
    assert [name for name, function in found.items() if not names_its_program(name, function)] == []


def names_its_program(name: str, function: Any) -> bool:
    if getattr(function, "unscoped", ""):
        return True
    parameter = inspect.signature(function).parameters.get("program_id")
    if parameter is None or parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        return False
    source, module = inspect.getsource(function), sys.modules[function.__module__]
    shared = [value for key, value in vars(module).items() if isinstance(value, str) and f"{{{key}}}" in source]
    said = " ".join([source.partition('"""')[2], *shared])
    names_it = re.search(r"program_id = \$1|\(program_id, .*(VALUES \(|SELECT )\$1", said, re.DOTALL)
    return names_it is not None or (name.startswith("programs.") and "WHERE id = $1" in said)


def test_every_statement_is_in_a_store() -> None:
    for room in ROOMS:
        for path in room.glob("*.py"):
            if path.stem not in ("store", "invariants"):
                words = path.read_text(encoding="utf-8").replace("SELECT clock_timestamp()", "")
                assert not any(f"{verb} " in words for verb in ("SELECT", "INSERT INTO", "UPDATE", "DELETE FROM")), path


def test_no_room_imports_the_routes_of_another() -> None:
    for path in (ROOT / "src/invitree").rglob("*.py"):
        for wing, room in re.findall(
            r"invitree\.(\w+)\.(\w+)(?:\.api| import api)\b", path.read_text(encoding="utf-8")
        ):
            assert path.parent == ROOT / "src/invitree" / wing / room, path


def test_every_public_thing_has_a_docstring() -> None:
    for module in pkgutil.walk_packages(invitree.__path__, "invitree."):
        if module.name.startswith("invitree.migrations.") and not module.name.endswith(".upgrade"):
            continue
        loaded = importlib.import_module(module.name)
        assert loaded.__doc__, module.name
        for name, thing in inspect.getmembers(loaded):
            is_ours = getattr(thing, "__module__", "") == module.name
            if is_ours and not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
                assert thing.__doc__, f"{module.name}.{name}"


def test_problems_are_told_apart_by_their_codes() -> None:
    codes = [problem.code for problem in catalog()]
    assert len(codes) == len(set(codes))
    for problem in catalog():
        assert all([*problem.message, *problem.title]), problem
        assert 400 <= problem.status < 600
