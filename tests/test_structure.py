"""The source shows itself: few modules at the root, none too long, and no circle of imports."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "gtpick_model": ROOT / "gtpick_model",
    "gtpick_export": ROOT / "export" / "gtpick_export",
    "gtpick_rt": ROOT / "runtime" / "gtpick_rt",
}
FILES = sorted(path for package in PACKAGES.values() for path in package.rglob("*.py"))
MOST_LINES = {"module": 300, "function": 50}
MOST_AT_THE_ROOT = 8

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def test_few_modules_lie_at_the_root_of_the_runtime() -> None:
    assert len(list(PACKAGES["gtpick_rt"].glob("*.py"))) <= MOST_AT_THE_ROOT


@every_file
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES["module"]


@every_file
def test_the_functions_of_a_module_are_short(path: Path) -> None:
    """Lines of the body count; a signature or docstring may list as many options as there are."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    bodies = {node.name: node.body[1:] if ast.get_docstring(node) else node.body for node in functions}
    lengths = {name: (body[-1].end_lineno or 0) - body[0].lineno + 1 for name, body in bodies.items() if body}
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES["function"]}


def module_of(path: Path, name: str, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join((name, *(part for part in parts if part != "__init__")))


def imported_by(path: Path, modules: set[str]) -> set[str]:
    """The modules that a file imports anywhere, also inside functions or for types alone."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= names or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {module_of(path, name, folder): path for name, folder in PACKAGES.items() for path in folder.rglob("*.py")}
    graph = {module: imported_by(path, set(files)) for module, path in files.items()}
    graph["gtpick_rt"] = set()  # names are imported from it when they are used, which is what it is for
    assert len(graph["gtpick_rt.cli.pick"]) > 1
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
