"""The documentation site is built without a warning, and is whole: each page, the reference made
from the program, search, and nothing that is loaded from elsewhere.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from gtpick_rt import __all__ as public_names
from gtpick_rt.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    path = os.pathsep.join(map(str, (ROOT / "runtime", ROOT / "export", ROOT)))
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_built_and_listed(site: Path) -> None:
    front = (site / "index.html").read_text()
    assert not [name for name in PAGES if not (site / f"{name}.html").is_file()]
    assert not [name for name in PAGES if f'href="{name}.html"' not in front]


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    page = (site / "commands.html").read_text()
    for name, stand_in in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f'id="gtpick-rt-{name}"' in page
        shown = stand_in.make_context(name, [], resilient_parsing=True).command
        options = [param.opts[0] for param in shown.params if param.opts[0].startswith("--")]
        assert not [option for option in options if option not in page]


def test_the_api_has_every_public_name(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert not [name for name in public_names if name != "__version__" and f'.{name}"' not in page]


def test_pictures_are_there_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text()
        loaded = re.findall(r'<(?:img|script|source)[^>]* src="([^"]+)"|<link[^>]* href="([^"]+)"', text)
        for address in (src or href for src, href in loaded):
            assert not address.startswith(("http:", "https:", "//")), page.name
            assert (site / address.lstrip("/")).exists(), (page.name, address)


def test_the_site_can_be_searched_from_the_disk(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page()
        page.goto(f"{(site / 'index.html').as_uri()}?q=rethreshold")
        page.get_by_text(re.compile(r"\d matching documents")).wait_for(timeout=60_000)
        chromium.close()
