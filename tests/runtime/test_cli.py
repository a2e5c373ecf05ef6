import importlib.metadata
import json
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import mrcfile
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from gtpick_rt.cli import app
from gtpick_rt.formats.star import picks_to_star
from gtpick_rt.inputs import Job
from gtpick_rt.reading.info import UNFINISHED
from gtpick_rt.summary import Failure
from gtpick_rt.types import Picks

GOLDEN = Path(__file__).parent / "golden"
REGENERATE = "GTPICK_REGENERATE_GOLDEN"
"""`GTPICK_REGENERATE_GOLDEN=1 python -m pytest tests/runtime/test_cli.py` rewrites the golden files."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="gtpick-rt")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with one good micrograph and two bad ones."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    with mrcfile.new("in/good [red].mrc") as file:
        file.set_data(np.zeros((6, 4), np.float32))
        file.voxel_size = 1.5
    Path("in/short.mrc").write_bytes(Path("in/good [red].mrc").read_bytes()[:-1])
    Path("in/zero.mrc").touch()
    return tmp_path


def save_picks(path: Path, *xy: tuple[float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(xy)
    picks = Picks(np.array(xy, np.float32).reshape(n, 2), np.ones(n, np.float32), np.ones(n, np.float32))
    path.write_text(picks_to_star(picks))


def interface(command: str) -> str:
    """A command's help as text, free of the look that a version of typer gives it."""
    shown = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    lines = [f"{command}: {' '.join(shown.help.split())}", ""]
    for param in shown.params:
        default = f" [default: {param.default}]" if isinstance(param.default, str | float) and param.default else ""
        required = " [required]" if param.required else ""
        lines.append(f"{' '.join(param.opts)}: {param.help}{required}{default}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("command", ["check", "evaluate", "pick"])
def test_the_interface_is_as_recorded(command: str) -> None:
    golden = GOLDEN / f"{command}.txt"
    if REGENERATE in os.environ:
        golden.write_text(interface(command))
    assert interface(command) == golden.read_text()


@pytest.mark.parametrize("command", ["check", "evaluate", "pick"])
def test_help_names_every_option(run: Callable[..., Result], command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    for option in re.findall(r"^--[a-z-]+", interface(command), re.MULTILINE):
        assert option in result.output


def test_every_command_is_listed_with_a_line_of_help(run: Callable[..., Result]) -> None:
    listing = run("--help").output.partition("Commands:")[2].strip().splitlines()
    assert {"pick", "check", "evaluate"} <= {line.split()[0] for line in listing}
    assert all(len(line.split()) > 3 for line in listing)


def test_the_version_is_that_of_the_installed_package(run: Callable[..., Result]) -> None:
    assert run("--version").output == f"gtpick-rt {importlib.metadata.version('gtpick-rt')}\n"


@pytest.mark.parametrize("arguments", [["nope"], ["check"], ["check", "in", "--nope"], ["evaluate", "a", "b"]])
def test_wrong_usage_exits_with_1(run: Callable[..., Result], arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert "Error: " in result.stderr


def test_our_own_errors_are_one_line_on_stderr_and_exit_code_1(run: Callable[..., Result], folder: Path) -> None:
    result = run("check", "absent")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: 'absent': no such file or folder\n"


def test_check_lists_what_would_be_picked_and_what_not_and_why(run: Callable[..., Result], folder: Path) -> None:
    result = run("check", "in")
    assert result.exit_code == 3
    good, *bad = (line for line in result.output.splitlines() if "in/" in line)
    assert good.split() == ["in/good", "[red].mrc", "4", "6", "float32", "1.5"]
    assert bad == [
        "IncompleteError: in/short.mrc: 1119 of 1120 bytes are there: " + UNFINISHED,
        "IncompleteError: in/zero.mrc: 0 of 1024 bytes are there: " + UNFINISHED,
    ]
    assert "1 micrographs can be picked, 2 cannot" in result.output
    assert sorted(path.name for path in folder.rglob("*")) == ["good [red].mrc", "in", "short.mrc", "zero.mrc"]


def test_check_succeeds_when_all_can_be_picked(run: Callable[..., Result], folder: Path) -> None:
    result = run("check", "in/good [red].mrc", "--pixel-size", "2.25")
    assert result.exit_code == 0
    assert "2.25" in result.output
    assert result.stderr == "warning: in/good [red].mrc: using 2.25 Å per pixel; the header says 1.5\n"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "in", "--pixel-size"],
        ["pick", "in", "--out", "o", "--diameter", "9", "--pixel-size"],
        ["evaluate", "in", "in", "--diameter"],
        ["evaluate", "in", "in", "--diameter", "9", "--pixel-size"],
        ["evaluate", "in", "in", "--diameter", "9", "--radius"],
    ],
)
def test_lengths_are_finite(run: Callable[..., Result], folder: Path, arguments: list[str], value: str) -> None:
    result = run(*arguments, value)
    assert result.exit_code == 1
    assert arguments[-1] in result.stderr
    assert not Path("o").exists()


def test_check_counts_a_folder_that_cannot_be_listed_as_a_failure(
    run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = Failure(stem="x", path="in/x", kind="UnreadableError", message="in/x: the folder cannot be listed: no")
    job = Job(Path("in/good [red].mrc"), PurePosixPath("good"), "in/good [red].mrc")
    monkeypatch.setattr("gtpick_rt.inputs.find_jobs", lambda inputs, recursive: ([job], [failure]))
    result = run("check", "in", "--recursive")
    assert result.exit_code == 3
    assert "UnreadableError: in/x: the folder cannot be listed: no" in result.output
    assert "1 micrographs can be picked, 1 cannot" in result.output


def test_evaluate_compares_folders_by_the_names_of_their_files(run: Callable[..., Result], tmp_path: Path) -> None:
    save_picks(tmp_path / "picks" / "sub" / "a_autopick.star", (0, 0), (500, 0))
    save_picks(tmp_path / "picks" / "b_autopick.star")
    save_picks(tmp_path / "picks" / "alone_autopick.star", (1, 1))
    save_picks(tmp_path / "picks" / ".gtpick" / "a.star", (9, 9))
    (tmp_path / "picks" / "autopick.star").write_text("data_coordinate_files\n")
    save_picks(tmp_path / "labels" / "a.star", (0, 20))
    (tmp_path / "labels" / "b.csv").write_text("x,y\n7,7\n")
    result = run(
        "evaluate",
        tmp_path / "picks",
        tmp_path / "labels",
        "--diameter",
        120,
        "--pixel-size",
        2,
        "--json",
        tmp_path / "f.json",
    )
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "alone_autopick.star" in result.stderr
    assert {"precision 0.500", "recall 0.500", "F1 0.500", "median centre error 20.0 px"} <= set(lines)
    assert lines[-1] == "one-to-one matching within 20.0 px (0.33 of the diameter)"
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["radius_px"] == 20
    assert figures["diameter_px"] == 60
    assert (figures["micrographs"], figures["picks"], figures["labels"], figures["matches"]) == (2, 2, 2, 1)
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.5, 0.5, 0.5)
    assert figures["centre_error_px"] == 20


def test_evaluate_compares_two_files_whatever_their_names(run: Callable[..., Result], tmp_path: Path) -> None:
    save_picks(tmp_path / "a.star", (0, 0))
    save_picks(tmp_path / "b.star", (0, 20))
    for radius, matches in ((21, "1"), (19, "0")):
        result = run("evaluate", tmp_path / "a.star", tmp_path / "b.star", "--diameter", 60, "--radius", radius)
        assert result.exit_code == 0
        (line,) = (line for line in result.stdout.splitlines() if line.strip().startswith("matches"))
        assert line.split() == ["matches", matches]


def test_evaluate_without_a_pair_or_with_two_of_a_name_is_a_usage_error(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    save_picks(tmp_path / "picks" / "a_autopick.star")
    save_picks(tmp_path / "labels" / "b.star")
    result = run("evaluate", tmp_path / "picks", tmp_path / "labels", "--diameter", 60)
    assert (result.exit_code, result.stderr[:15]) == (1, "error: no file ")
    save_picks(tmp_path / "labels" / "sub" / "b.star")
    result = run("evaluate", tmp_path / "picks", tmp_path / "labels", "--diameter", 60)
    assert result.exit_code == 1
    assert "have the same name" in result.stderr


def test_a_command_of_a_sibling_package_without_its_dependencies_says_what_to_install(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt.cli import _plugin

    (tmp_path / "sibling_commands.py").write_text(
        "import absent_dependency\n\ndef learn(out: str) -> None:\n    'Learn.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("learn", "sibling_commands:learn", "gtpick_rt.commands")
    other = typer.Typer(cls=app.info.cls)
    other.command("learn", cls=_plugin(entry))(lambda: None)
    other.command("check")(lambda: None)
    result = CliRunner().invoke(other, ["learn", "x"])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: absent_dependency is not installed: install the extra train: pip install '.[train]' in the clone\n"
    )


def test_a_module_that_is_missing_otherwise_is_no_question_of_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    other = typer.Typer(cls=app.info.cls)

    @other.command()
    def broken() -> None:
        raise ModuleNotFoundError("No module named 'ours'", name="ours")

    other.command("check")(lambda: None)
    assert isinstance(CliRunner().invoke(other, ["broken"]).exception, ModuleNotFoundError)


def test_a_command_of_a_sibling_package_is_loaded_only_when_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt.cli import _plugin

    (tmp_path / "quiet_commands.py").write_text(
        "print('loaded')\n\ndef learn(out: str) -> None:\n    'Learn.'\n    print('learning', out)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("learn", "quiet_commands:learn", "gtpick_rt.commands")
    other = typer.Typer(cls=app.info.cls, rich_markup_mode=None)
    other.command("learn", cls=_plugin(entry), help="See there.")(lambda: None)
    other.command("check")(lambda: None)
    assert "loaded" not in CliRunner().invoke(other, ["--help"]).output
    assert CliRunner().invoke(other, ["learn", "x"]).output == "loaded\nlearning x\n"
