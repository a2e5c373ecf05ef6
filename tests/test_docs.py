"""What the documents promise exists: commands and their options, make targets, extras, links,
files, modules and messages.
"""

import ast
import json
import re
import shlex
from pathlib import Path
from string import Template
from typing import Any

import pytest
from typer import Exit
from typer.main import get_command

from gtpick_rt.cli import relion
from gtpick_rt.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
README_LINES = 120
OTHER_PROGRAMS = ("#", ".", "git", "cd", "make", "pip", "python3", "conda", "dask", "srun", "relion_pipeliner")
"""That a block of commands may begin a line with, beside our own."""
OTHER_LIBRARIES = {"cryosparc", "tritonclient"}
"""That Python in a document may import though they are not installed for the tests."""
FOLDERS = (ROOT, ROOT / "benchmarks", ROOT / "docs", ROOT / "sample")
DOCUMENTS = sorted(path for folder in FOLDERS for path in folder.glob("*.md"))

CALLED = re.compile(r"(?:^|[ /])(?:gtpick-rt|gtpick(?:\.sif)?(?= (?:pick|monitor) )) +([^|>&]+)")
"""The program with its arguments: first on a line, behind another program, or as an image of it."""

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(path: Path, language: str) -> list[str]:
    """Fenced code of one language, continued lines joined."""
    text = path.read_text().replace("\\\n", " ")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def called() -> list[str]:
    """The arguments of each call of the program in a block, fenced or indented."""
    lines: list[str] = []
    for path in DOCUMENTS:
        lines += [line for block in blocks(path, r"(?!yaml)\w*") for line in block.splitlines()]
        lines += [line for line in outside_blocks(path).splitlines() if line.startswith("    ")]
    found = (CALLED.search(line.partition(" #")[0].strip()) for line in lines)
    return sorted({match.group(1) for match in found if match})


def outside_blocks(path: Path) -> str:
    text = path.read_text().replace("\\\n", " ")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def inline_commands() -> list[str]:
    """Commands in the midst of a sentence or a table, which may be without their arguments."""
    named = (name for path in DOCUMENTS for name in re.findall(r"`(gtpick-rt [a-z][^`]*)`", path.read_text()))
    return sorted({name.replace("\\|", "|") for name in named})


def options_of(name: str) -> set[str]:
    """The options of a command, as they are typed."""
    shown = get_command(app).commands[name].make_context(name, [], resilient_parsing=True).command  # type: ignore[attr-defined]
    return {"--help", *(option for param in shown.params for option in param.opts)}


@pytest.mark.parametrize("line", inline_commands())
def test_a_command_named_in_a_sentence_exists(line: str) -> None:
    name = line.split()[1]
    assert name in get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= options_of(name)


@document
def test_a_block_of_commands_holds_nothing_unchecked(path: Path) -> None:
    lines = [line for block in blocks(path, "bash") for line in block.splitlines() if line.strip()]
    assert not [line for line in lines if not line.split()[0].startswith(("gtpick-", *OTHER_PROGRAMS))]


@document
def test_extras_named_in_a_document_exist(path: Path) -> None:
    declared = re.search(
        r"^\[project.optional-dependencies\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.S | re.M
    )
    assert declared is not None
    there = set(re.findall(r"^(\w+) = \[", declared.group(1), re.MULTILINE))
    named = re.findall(r"'\.\[([\w,]+)\]'", path.read_text())
    named += re.findall(r"(?:extras? `|EXTRAS=)([\w,]+)", path.read_text())
    assert {extra for names in named for extra in names.split(",")} <= there


def test_a_documented_job_of_relion_parses() -> None:
    (line,) = re.findall(r"`(gtpick-relion --o [^`]*)`", (ROOT / "docs" / "relion.md").read_text())
    get_command(relion.app).make_context("gtpick-relion", shlex.split(line)[1:])


def messages() -> set[str]:
    """The constant parts of all that the program can print."""
    packages = (ROOT / name for name in ("runtime", "export", "gtpick_model"))
    trees = [ast.parse(path.read_text()) for package in packages for path in package.rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_messages_that_are_explained_are_those_of_the_program() -> None:
    told = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    parts = {part.strip() for message in told for part in message.split("…") if part.strip(" :(")}
    printed = "\n".join(messages())
    assert len(told) > 40
    assert not [part for part in parts if part not in printed]


def test_the_sample_is_not_picked_into_the_folder_that_the_readme_names_next() -> None:
    """Its diameter would be that of the reader's own micrographs."""
    (out,) = re.findall(r"^OUT +\?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert out not in re.findall(r"--out (\S+)", (ROOT / "README.md").read_text())


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("line", called())
def test_a_documented_command_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(Template(line).substitute(SLURM_ARRAY_TASK_ID=1, SLURM_ARRAY_TASK_COUNT=8))
    commands = get_command(app).commands
    for argument in arguments:  # some must exist to be accepted
        if argument.endswith("/"):
            Path(argument).mkdir()
        elif argument.endswith(".safetensors"):
            Path(argument).parent.mkdir(parents=True)
            Path(argument).touch()
    assert name in commands
    if "--help" not in arguments:
        commands[name].make_context(name, arguments)
    else:
        with pytest.raises(Exit):
            commands[name].make_context(name, arguments)


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_python_in_a_document_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sorted((ROOT / "sample").glob("*.mrc"))
    if not sample or not list((ROOT / "runtime" / "gtpick_rt").rglob("*.onnx")):
        pytest.skip("the sample micrographs or the shipped model are absent")
    monkeypatch.chdir(tmp_path)
    Path("micrographs").mkdir()
    for path, source in zip("abc", sample, strict=False):
        Path(f"micrographs/{path}.mrc").symlink_to(source)
    variables: dict[str, Any] = {}
    for block in blocks(ROOT / name, "python"):
        exec(compile(block, name, "exec"), variables)


@document
def test_python_in_a_document_compiles_and_imports_what_there_is(path: Path) -> None:
    nodes = [node for block in blocks(path, "python") for node in ast.walk(ast.parse(block))]
    absent = set()
    for node in nodes:
        try:
            exec(ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else "", {})
        except ModuleNotFoundError as error:
            absent.add(error.name)
    assert absent <= OTHER_LIBRARIES


@document
def test_make_targets_in_a_document_exist(path: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ +|`)make (\w+)", path.read_text(), re.MULTILINE)) <= targets


@document
def test_links_in_a_document_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@document
def test_files_named_in_a_document_exist(path: Path) -> None:
    names = re.findall(r"`((?:tests|benchmarks|runtime|export|gtpick_model|sample)/[\w./]*)`", path.read_text())
    assert not [name for name in names if not (ROOT / name).exists()]


def test_the_packages_of_the_architecture_are_those_that_there_are() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    in_table = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    in_diagram = set(re.findall(r"\b[a-z]+\b", re.sub(r"-[-.] .*? [-.]{1,2}-?>", "->", text.split("```")[1])))
    there = {path.parent.name for path in (ROOT / "runtime" / "gtpick_rt").glob("*/__init__.py")}
    assert there - {"bench", "cli", "monitor", "report"} == in_table
    assert there - {"bench", "evaluate", "formats"} <= in_diagram


@document
def test_prose_in_a_document_wraps_at_100_characters(path: Path) -> None:
    """Code, tables, pictures and links may be longer."""
    lines = [line for line in outside_blocks(path).splitlines() if not line.startswith(("|", "!", "    ", "#"))]
    assert not [line for line in lines if len(line) > 100 and " " in line[:100].strip()]


def test_results_by_machine_are_those_of_their_files() -> None:
    page = (ROOT / "docs" / "machines.md").read_text()
    row = r"^\| [^|]+ \| `([^`]+)` \| (\d+) x (\d+), (\d+) tiles \| ([\d.]+) \| (\d+) \| \[\w+\]\(\.\./([\w/.]+)\) \|$"
    rows = re.findall(row, page, re.MULTILINE)
    assert len(rows) == page.count(".json) |") > 0
    for backend, width, height, tiles, seconds, rate, file in rows:
        told = json.loads((ROOT / file).read_text())
        assert (told["backend"], told["width"], told["height"]) == (backend, int(width), int(height))
        assert told["tiles"] == int(tiles)
        assert f"{told['pipeline_s']:.3f}" == seconds
        assert f"{max(told['tiles_per_s'].values()):.0f}" == rate


def test_maps_by_picker_are_those_of_their_file() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text()
    row = r"^\| [^|]+ \(`(\w+)`\) \| (\d+) \| (\d+) \| (\d+) of (\d+) \| ([\d.]+) \| ([\d.]+) \|$"
    rows = re.findall(row, page, re.MULTILINE)
    file = ROOT / "benchmarks" / "interoperability" / "results" / "map_resolution.json"
    pickers = json.loads(file.read_text())["specimens"]["symmetric"]["pickers"]
    assert {name for name, *_ in rows} == set(pickers)
    for name, *told in rows:
        each = pickers[name]
        counts = [each[key] for key in ("picked", "true", "kept", "extracted")]
        lengths = [f"{each[key]:.1f}" for key in ("halves_A", "truth_A")]
        assert told == [*map(str, counts), *lengths]
