"""How help is drawn: options and commands in groups, whole sentences, examples at the end."""

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

from gtpick_rt.cli.examples import EXAMPLES

LOOK: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
INPUT, PARTICLE, MODEL, OUTPUT = "Input", "Particle", "Model", "Output"
NOT_HERE = "Where not to pick"
WITH_OUT = "With --out"
ON_THE_FLY, MACHINES, SLURM = "On the fly", "GPUs and machines", "Jobs of Slurm, with --cluster"
"""Groups of options."""
PICKING, JUDGING, TRAINING, MACHINE = "Pick", "Look and judge", "Train and adapt", "This machine"
"""Groups of commands, in the order in which they are listed."""


_WHOLE_DEFAULT = re.compile(r"(\[default: \d+)\.0(?=[\];])")
_WHOLE = {ord("-"): "\N{NON-BREAKING HYPHEN}"}


class _Formatter(TyperCommand.context_class.formatter_class):  # type: ignore[misc, name-defined]
    """Fills lines without breaking at hyphens, which are parts of paths, options and names."""

    def write_text(self, text: str) -> None:
        super().write_text(text.translate(_WHOLE))

    def write_dl(self, rows: Any, **layout: Any) -> None:
        super().write_dl([(name, text.translate(_WHOLE)) for name, text in rows], **layout)

    def getvalue(self) -> str:
        return str(super().getvalue()).replace(_WHOLE[ord("-")], "-")


class _Context(TyperCommand.context_class):  # type: ignore[misc, valid-type]
    formatter_class = _Formatter


class HelpfulCommand(TyperCommand):
    """A command whose options are listed by group, in the order in which the groups first appear,
    those of no group last, and whose help ends in examples.
    """

    context_class = _Context

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name the arguments by what is to be typed."""
        arguments = [param for param in self.params if param.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_usage, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List arguments and options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = record_of(param, ctx)
            if record is not None:
                kind = "Arguments" if param.param_type_name == "argument" else "Options"
                group = _group(param) or kind
                groups.setdefault(group, []).append(record)
        ungrouped = groups.pop("Options", [])
        for group, records in (*groups.items(), ("Options", ungrouped)):
            with formatter.section(group):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """List the examples, as they are typed."""
        lines = EXAMPLES.get(self.name or "", ())
        if lines:
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"  {line}\n")


class HelpfulGroup(TyperGroup):
    """Commands listed by group, each with the whole first sentence of its help."""

    context_class = _Context

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands."""
        width = max(map(len, self.commands))
        for group in (PICKING, JUDGING, TRAINING, MACHINE):
            of_group = [name for name, command in self.commands.items() if _group(command) == group]
            with formatter.section(group):
                formatter.write_dl([(f"{name:{width}}", sentence(self.commands[name].help)) for name in of_group])


def record_of(param: Any, ctx: Any) -> tuple[str, str] | None:
    """Return what help says of a parameter: its name, of arguments without their Python type, and
    the text, with whole numbers as such; None for what is hidden.
    """
    record: tuple[str, str] | None = param.get_help_record(ctx)
    if record is None:
        return None
    name, text = record
    return param.metavar if param.param_type_name == "argument" else name, _WHOLE_DEFAULT.sub(r"\1", text)


def _usage(argument: Any) -> str:
    """Return an argument as it stands in the line of usage."""
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return name if argument.nargs == 1 else f"{name}..."


def _group(listed: Any) -> str | None:
    """Return the group that a command or an option was declared in."""
    group: str | None = getattr(listed, "rich_help_panel", None)
    return group


def sentence(text: str | None) -> str:
    """Return the first sentence of a help text."""
    first, _, _ = " ".join((text or "").split()).partition(". ")
    return first.rstrip(".") + "."
