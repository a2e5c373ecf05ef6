import errno
import importlib.metadata
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import mrcfile
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from gtpick_rt.arrivals.jobs import Found, Job
from gtpick_rt.cli.main import app, errors_told
from gtpick_rt.errors import UnadaptedError
from gtpick_rt.reading.info import UNFINISHED
from gtpick_rt.records import Failure

GOLDEN = Path(__file__).parent / "golden"
CODES = Path(__file__).resolve().parents[3] / "docs" / "commands.md"
REGENERATE = "GTPICK_REGENERATE_GOLDEN"
"""`GTPICK_REGENERATE_GOLDEN=1 python -m pytest tests/runtime/cli/test_cli.py` rewrites the golden
files."""
COMMANDS = (
    "bench",
    "build",
    "check",
    "convert",
    "doctor",
    "evaluate",
    "models",
    "monitor",
    "pick",
    "report",
    "rethreshold",
    "selftest",
)
WITH_TORCH = ("simulate", "train", "export", "finetune", "adapt")


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


def interface(command: str) -> str:
    """A command's help as text, free of the look that a version of typer gives it."""
    shown = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    if command in WITH_TORCH:  # a stand-in, which loads the command itself when that is called
        shown = shown.make_context(command, [], resilient_parsing=True).command
    lines = [f"{command}: {' '.join(shown.help.split())}", ""]
    for param in shown.params:
        default = f" [default: {param.default}]" if isinstance(param.default, str | float) and param.default else ""
        required = " [required]" if param.required else ""
        lines.append(f"{' '.join(param.opts)}: {param.help}{required}{default}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("command", [*COMMANDS, *WITH_TORCH])
def test_the_interface_is_as_recorded(command: str) -> None:
    if command in WITH_TORCH:
        pytest.importorskip("torch", reason="the extra train is not installed")
    golden = GOLDEN / f"{command}.txt"
    if REGENERATE in os.environ:
        golden.write_text(interface(command))
    assert interface(command) == golden.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option(run: Callable[..., Result], command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    for option in re.findall(r"^--[a-z-]+", interface(command), re.MULTILINE):
        assert option in result.output


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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileExistsError(errno.EEXIST, "File exists", "out"), "out: File exists"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (MemoryError(), "not enough memory: end other programs, or ask the cluster for more"),
        (
            MemoryError("Unable to allocate 1.5 GiB"),
            "not enough memory (Unable to allocate 1.5 GiB): end other programs, or ask the cluster for more",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line_and_exit_code_1(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_told():
        raise error
    assert (ended.value.code, capsys.readouterr().err) == (1, f"error: {line}\n")


def test_memory_that_the_survey_lacks_is_told_in_one_line(
    run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 748. MiB")

    monkeypatch.setattr("gtpick_rt.picking.fulfilling.open_picker", fail)
    result = run("pick", "in", "--out", "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: not enough memory (Unable to allocate 748. MiB): ")


def test_a_mistake_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_told():
        raise ZeroDivisionError


def test_a_refusal_to_adapt_has_an_exit_code_of_its_own_which_the_documents_explain() -> None:
    with pytest.raises(SystemExit) as ended, errors_told():
        raise UnadaptedError("ice alone")
    assert ended.value.code == 4
    assert "\n| 4 | of `adapt`: " in CODES.read_text()


def test_check_lists_what_would_be_picked_and_what_not_and_why(run: Callable[..., Result], folder: Path) -> None:
    result = run("check", "in")
    assert result.exit_code == 3
    good, *bad = (line for line in result.output.splitlines() if "in/" in line)
    assert good.split() == ["4", "6", "float32", "1.5", "in/good", "[red].mrc"]
    assert bad == [
        "cannot be picked: in/short.mrc: 1119 of 1120 bytes are there: " + UNFINISHED,
        "cannot be picked: in/zero.mrc: 0 of 1024 bytes are there: " + UNFINISHED,
    ]
    assert "1 micrograph can be picked, 2 cannot" in result.output
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
    monkeypatch.setattr("gtpick_rt.arrivals.jobs.find_jobs", lambda *_: Found([job], [failure]))
    result = run("check", "in", "--recursive")
    assert result.exit_code == 3
    assert "cannot be picked: in/x: the folder cannot be listed: no" in result.output
    assert "1 micrograph can be picked, 1 cannot" in result.output


def test_a_command_of_a_sibling_package_without_its_dependencies_says_what_to_install(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt.cli.main import _plugin

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
    from gtpick_rt.cli.main import _plugin

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
