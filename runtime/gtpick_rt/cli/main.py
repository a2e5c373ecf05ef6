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
from typer.core import TyperCommand, TyperGroup

from gtpick_rt.cli.bench import bench
from gtpick_rt.cli.build import build
from gtpick_rt.cli.check import check
from gtpick_rt.cli.convert import convert
from gtpick_rt.cli.doctor import doctor
from gtpick_rt.cli.evaluate import evaluate
from gtpick_rt.cli.monitor import monitor
from gtpick_rt.cli.options import EXIT_USAGE
from gtpick_rt.cli.pick import pick
from gtpick_rt.cli.report import report
from gtpick_rt.cli.rethreshold import rethreshold
from gtpick_rt.cli.streams import in_utf8, serving
from gtpick_rt.errors import GtpickError, UsageError

PLUGINS = "gtpick_rt.commands"
"""Entry points under this name are commands of sibling packages, which the runtime does not import
itself. What a command needs of the extra train, its module names as `NEEDED`."""
LOOK: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


@contextmanager
def errors_told() -> Iterator[None]:
    """Our own errors, and those of the command line's syntax, are one line on stderr and exit code
    1.
    """
    try:
        yield
    except GtpickError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except SystemExit as error:
        # the command-line library exits with 2 for wrong options
        sys.exit(EXIT_USAGE if error.code == 2 else error.code)


class _Group(TyperGroup):
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
    """Pick particles in cryo-EM micrographs."""


def _plugin(entry: EntryPoint) -> type[TyperCommand]:
    """Make a command class that loads a sibling package only when its command is called or asked
    for help.
    """

    class Plugin(TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **kwargs: Any) -> Any:
            asked_for_help = kwargs.get("resilient_parsing") or {"-h", "--help"} & set(args)
            single = typer.Typer(**LOOK)
            single.command(entry.name)(_load(entry, to_run=not asked_for_help))
            return typer.main.get_command(single).make_context(info_name, args, parent, **kwargs)

    return Plugin


def _load(entry: EntryPoint, *, to_run: bool) -> Any:
    """Load a command and, if it is going to run, what it needs, before anything else is judged.

    Raises UsageError, which says what to install.
    """
    way_out = "install the extra train: pip install '.[train]' in the clone"
    try:
        for name in getattr(import_module(entry.module), "NEEDED", ()) if to_run else ():
            import_module(name)
        return entry.load()
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: {way_out}") from error
    except (ImportError, OSError) as error:  # its own libraries are missing, or of another version
        raise UsageError(f"what this command needs cannot be loaded ({error}): {way_out}") from error


for _command in (pick, check, convert, rethreshold, evaluate, bench, build, monitor, report, doctor):
    app.command()(_command)
for _entry in sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name):
    _help = f"See `gtpick-rt {_entry.name} --help` (needs the extra train)."
    app.command(_entry.name, cls=_plugin(_entry), help=_help)(lambda: None)
