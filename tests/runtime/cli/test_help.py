"""How help is drawn: in groups, in whole sentences, with defaults and with examples that can be
typed.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gtpick_rt.cli import relion
from gtpick_rt.cli.examples import EXAMPLES
from gtpick_rt.cli.help import INPUT, JUDGING, MACHINE, MACHINES, MODEL, ON_THE_FLY, OUTPUT, PARTICLE, PICKING, TRAINING
from gtpick_rt.cli.main import app
from gtpick_rt.models.files import DEFAULT_MODEL

COLUMNS = 80
THERE = (".safetensors", "/")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The help of a command, or of all, in a terminal of 80 columns."""
    for name, value in {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    def show(*command: str) -> str:
        if command == ("relion",):
            return CliRunner().invoke(relion.app, ["--help"], prog_name="gtpick-relion").output
        return CliRunner().invoke(app, [*command, "--help"], prog_name="gtpick-rt").output

    return show


def sections(text: str) -> dict[str, str]:
    """What stands below each heading."""
    parts = re.split(r"^(\S.*):\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_commands_are_listed_in_groups_by_whole_sentences(shown: Callable[..., str]) -> None:
    listed = sections(shown())
    assert list(listed) == ["Options", PICKING, JUDGING, TRAINING, MACHINE]
    assert "..." not in "".join(list(listed.values()))
    named = {name for text in listed.values() for name in re.findall(r"^  ([a-z]+) ", text, re.MULTILINE)}
    assert named == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for entry in re.split(r"^  (?=[a-z])", "".join(list(listed.values())[1:]), flags=re.MULTILINE)[1:]:
        assert entry.rstrip().endswith(".")


def test_the_options_of_pick_are_in_groups(shown: Callable[..., str]) -> None:
    listed = sections(shown("pick"))
    groups = {
        INPUT: "--pixel-size",
        OUTPUT: "--out",
        PARTICLE: "--diameter",
        MODEL: "--backend",
        ON_THE_FLY: "--watch",
        MACHINES: "--gpus",
    }
    for group, option in groups.items():
        assert re.search(rf"^  {option}\b", listed[group], re.MULTILINE)
    assert list(listed)[-2:] == ["Options", "Examples"]
    assert listed["Options"].split()[0] == "-h,"
    assert "[default: auto]" in listed[PARTICLE]


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_help_ends_in_examples_and_fits_80_columns(shown: Callable[..., str], command: str) -> None:
    if command in ("simulate", "train", "export", "finetune", "adapt"):
        pytest.importorskip("torch", reason="the extra train is not installed")
    text = shown(command)
    assert text.rstrip().splitlines()[-len(EXAMPLES[command]) :] == [f"  {line}" for line in EXAMPLES[command]]
    assert max(map(len, text.splitlines())) <= COLUMNS


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_every_value_has_a_name_that_is_no_type_of_python(shown: Callable[..., str], command: str) -> None:
    if command in ("simulate", "train", "export", "finetune", "adapt"):
        pytest.importorskip("torch", reason="the extra train is not installed")
    text = shown(command)
    assert not re.findall(r"<[a-z]+[^>]*>", text)
    assert not re.findall(r"^  (?:--[\w-]+ )?(?:TEXT|INTEGER|FLOAT)\b", text, re.MULTILINE)
    assert not re.findall(r"[{}]", text.splitlines()[0])


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_whole_numbers_are_shown_as_such(shown: Callable[..., str], command: str) -> None:
    if command in ("simulate", "train", "export", "finetune", "adapt"):
        pytest.importorskip("torch", reason="the extra train is not installed")
    assert not re.findall(r"default:\s+\d+\.0[\];]", shown(command))


def test_what_holds_without_an_option_is_named(shown: Callable[..., str]) -> None:
    words = " ".join(shown("pick").split())
    assert f"by default {DEFAULT_MODEL}, or path" in words
    assert "by default as for the folder's picks, or auto: as wide as" in words
    assert "[default: 600; x>=0]" in words
    assert "[default: 127.0.0.1]" in " ".join(shown("monitor").split())


@pytest.mark.parametrize("command", ["", *sorted(EXAMPLES)])
def test_no_line_of_help_is_broken_at_a_hyphen(shown: Callable[..., str], command: str) -> None:
    if command in ("simulate", "train", "export", "finetune", "adapt"):
        pytest.importorskip("torch", reason="the extra train is not installed")
    text = shown(*command.split())
    assert not [line for line in text.splitlines() if line.endswith("-")]
    assert "\N{NON-BREAKING HYPHEN}" not in text


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == {*typer.main.get_command(app).commands, "relion"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_can_be_typed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(line)
    for argument in arguments:  # some must exist to be accepted
        if argument.endswith(THERE):
            Path(argument).parent.mkdir(parents=True, exist_ok=True)
            Path(argument).mkdir() if argument.endswith("/") else Path(argument).touch()
    if program == "gtpick-relion":
        typer.main.get_command(relion.app).make_context(program, arguments)
    else:
        name, *arguments = arguments
        typer.main.get_command(app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
