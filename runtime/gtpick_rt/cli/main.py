"""The command line: one file per command.

Commands import what they need when they run, so that starting is quick.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer

from gtpick_rt.backends.support import way_to_add
from gtpick_rt.cli.bench import bench
from gtpick_rt.cli.build import build
from gtpick_rt.cli.check import check
from gtpick_rt.cli.convert import convert
from gtpick_rt.cli.doctor import doctor
from gtpick_rt.cli.evaluate import evaluate
from gtpick_rt.cli.help import JUDGING, LOOK, MACHINE, PICKING, TRAINING, HelpfulCommand, HelpfulGroup
from gtpick_rt.cli.models import models
from gtpick_rt.cli.monitor import monitor
from gtpick_rt.cli.options import EXIT_USAGE
from gtpick_rt.cli.pick import pick
from gtpick_rt.cli.report import report
from gtpick_rt.cli.rethreshold import rethreshold
from gtpick_rt.cli.selftest import selftest
from gtpick_rt.cli.streams import in_utf8, serving
from gtpick_rt.errors import GtpickError, UsageError, text_of
from gtpick_rt.records import printable

PLUGINS = "gtpick_rt.commands"
"""Entry points under this name are commands of sibling packages, which the runtime does not import
itself. What a command needs of the extra train, its module names as `NEEDED`."""
LISTED = {
    PICKING: (pick, check, rethreshold, convert, models),
    JUDGING: (monitor, report, evaluate),
    MACHINE: (doctor, selftest, bench, build),
}
"""Our own commands, by group."""
SIBLINGS = {
    "simulate": "Write simulated micrographs with exact labels.",
    "train": "Train a network on simulated and real micrographs.",
    "export": "Export trained weights to an ONNX file that `pick --model` takes.",
    "finetune": "Adapt the network to your own picks on a few micrographs.",
    "adapt": "Adapt the network to a specimen without labels.",
}
"""What those of the sibling packages do, for the list of commands, which loads none of them."""


@contextmanager
def errors_told() -> Iterator[None]:
    """Our own errors, those of the command line's syntax, and files or memory that are not to be
    had are one line on stderr and an exit code: 1, unless the error has one of its own.

    Anything else is a mistake of the program and keeps its traceback.
    """
    try:
        yield
    except GtpickError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"error: {printable(text_of(error))}", err=True)
        sys.exit(EXIT_USAGE)
    except MemoryError as error:
        typer.echo(f"error: {text_of(error)}: end other programs, or ask the cluster for more", err=True)
        sys.exit(EXIT_USAGE)
    except SystemExit as error:
        # the command-line library exits with 2 for wrong options
        sys.exit(EXIT_USAGE if error.code == 2 else error.code)


class _Group(HelpfulGroup):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        with errors_told():
            return super().main(*args, **kwargs)


app = typer.Typer(cls=_Group, no_args_is_help=True, **LOOK)


def main() -> None:
    """Run the command line."""
    in_utf8()
    with serving():
        app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from gtpick_rt.version import __version__

        typer.echo(f"gtpick-rt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Pick particles in cryo-EM micrographs.

    Begin with `gtpick-rt pick micrographs/ --out picks`. `gtpick-rt COMMAND --help` shows the
    options of a command, with examples.
    """


def _plugin(entry: EntryPoint) -> type[HelpfulCommand]:
    """Make a command class that loads a sibling package only when its command is called or asked
    for help.
    """

    class Plugin(HelpfulCommand):
        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            asked_for_help = extra.get("resilient_parsing") or {"-h", "--help"} & set(args)
            single = typer.Typer(**LOOK)
            single.command(entry.name, cls=HelpfulCommand)(_load(entry, to_run=not asked_for_help))
            return typer.main.get_command(single).make_context(info_name, args, parent, **extra)

    return Plugin


def _load(entry: EntryPoint, *, to_run: bool) -> Any:
    """Load a command and, if it is going to run, what it needs, before anything else is judged.

    Raises UsageError, which says what to install.
    """
    try:
        for name in getattr(import_module(entry.module), "NEEDED", ()) if to_run else ():
            import_module(name)
        return entry.load()
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: {way_to_add('train')}") from error
    except (ImportError, OSError) as error:  # its own libraries are missing, or of another version
        raise UsageError(f"what this command needs cannot be loaded ({error}): {way_to_add('train')}") from error


for _group, _commands in LISTED.items():
    for _command in _commands:
        app.command(cls=HelpfulCommand, rich_help_panel=_group)(_command)
_entries = {entry.name: entry for entry in entry_points(group=PLUGINS)}
for _name in filter(_entries.get, SIBLINGS):
    _class = _plugin(_entries[_name])
    app.command(_name, cls=_class, help=SIBLINGS[_name], rich_help_panel=TRAINING)(lambda: None)
