"""What MkDocs asks while it builds the site: the command reference, made from the command line
itself, and links that leave docs/.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from typer.main import get_command

from gtpick_rt.cli import relion
from gtpick_rt.cli.examples import EXAMPLES
from gtpick_rt.cli.help import record_of
from gtpick_rt.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
HERE = "<!-- the commands -->"
SHOWN = {".png", ".json"}
"""Files outside docs/ that become part of the site; of others only the name remains."""


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Complete a page before it is rendered."""
    markdown = markdown.replace(HERE, "\n".join(_commands()))

    def inside(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (Path(config.docs_dir) / target).resolve().relative_to(ROOT)
        if path.suffix not in SHOWN:
            return text.lstrip("!").strip("[]")
        uri = f"repository/{path.as_posix()}"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
        return f"{text}({uri})"

    return re.sub(r"(!?\[[^\]]*\])\((\.\./[^)#\s]+)\)", inside, markdown)


def _commands() -> Iterator[str]:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, stand_in in commands.items():
        context = stand_in.make_context(name, [], resilient_parsing=True)
        yield from _command(f"gtpick-rt {name}", name, context)
    context = get_command(relion.app).make_context("relion", [], resilient_parsing=True)
    yield from _command("gtpick-relion", "relion", context)


def _command(title: str, name: str, context: Any) -> Iterator[str]:
    """One command: what it does, its options by group, its examples."""
    command = context.command
    yield f"## {title}\n"
    yield f"{command.help}\n"
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(context):
        record = record_of(param, context)
        if record is not None and "--help" not in record[0]:
            groups.setdefault(param.rich_help_panel or "", []).append(record)
    for group, records in groups.items():
        yield f"| {group or 'option'} | |\n|---|---|"
        yield from (f"| `{option}` | {text.replace('|', '&#124;')} |" for option, text in records)
        yield ""
    yield "\n".join(("```bash", *EXAMPLES[name], "```", ""))
