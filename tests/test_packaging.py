"""The wheel holds exactly the three packages, and picks when it alone is installed."""

import os
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"gtpick_model": ROOT, "gtpick_export": ROOT / "export", "gtpick_rt": ROOT / "runtime"}
SAMPLE = ROOT / "sample" / "sim_0000.mrc"


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed."""
    site = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--no-compile", "--target", str(site), str(wheel), cwd=site)
    return site


def test_the_wheel_holds_exactly_the_three_packages(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == set(PACKAGES)


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    kinds = {".py", ".typed", ".onnx", ".mrc", ".safetensors", ".md", ".html", ".css", ".js", ".ttf"}
    sources = {
        path.relative_to(parent).as_posix()
        for package, parent in PACKAGES.items()
        for path in (parent / package).rglob("*")
        if path.suffix in kinds
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= sources
    assert sources <= names


def test_the_wheel_holds_a_model_to_pick_with(wheel: Path) -> None:
    if not list((ROOT / "runtime" / "gtpick_rt").rglob("*.onnx")):
        pytest.skip("no model ships in gtpick_rt yet")
    assert any(n.startswith("gtpick_rt/") and n.endswith(".onnx") for n in zipfile.ZipFile(wheel).namelist())


def test_links_in_the_readme_of_the_wheel_lead_somewhere(wheel: Path) -> None:
    """It is shown where the files of the repository are not."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert "gtpick-rt pick" in text
    assert links
    assert not [link for link in links if not link.startswith("https://")]
    assert "EMPIAR-10028](" not in text  # what is said below a picture goes with it


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_from_the_installed_wheel(package: str, site: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import {package}; print({package}.__file__)"
    file = Path(run(sys.executable, "-I", "-c", code, cwd=tmp_path).strip())
    assert file.is_relative_to(site)


@pytest.fixture(scope="module")
def picks(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the installed wheel picks on a sample micrograph."""
    out = tmp_path_factory.mktemp("picked") / "picks"
    command = (sys.executable, "-m", "gtpick_rt", "pick", str(SAMPLE), "--diameter", "214", "--out", str(out))
    run(*command, "--overlays", "--formats", "box", cwd=out.parent, PYTHONPATH=str(site))
    return out


def test_the_installed_wheel_picks(picks: Path) -> None:
    assert SAMPLE.stem in (picks / "autopick.star").read_text()
    assert len((picks / f"{SAMPLE.stem}_autopick.star").read_text().splitlines()) > 10
    assert (picks / "box" / f"{SAMPLE.stem}.box").stat().st_size
    assert (picks / "overlays" / f"{SAMPLE.stem}.png").stat().st_size


def test_the_installed_wheel_finds_its_pages(site: Path, picks: Path, tmp_path: Path) -> None:
    """Templates, styles and scripts of report and monitor are read from the package."""
    page = tmp_path / "report.html"
    path = {"PYTHONPATH": str(site)}
    run(sys.executable, "-m", "gtpick_rt", "report", str(picks), "--out", str(page), cwd=tmp_path, **path)
    assert SAMPLE.stem in page.read_text()
    ask = (
        "import sys; from pathlib import Path; from starlette.testclient import TestClient; "
        "from gtpick_rt.monitor.app import make_app; "
        f"client = TestClient(make_app(Path({str(picks)!r})), base_url='http://localhost'); "
        "assert 'main.js' in client.get('/').text; print(client.get('/static/main.js').status_code)"
    )
    assert run(sys.executable, "-W", "ignore", "-c", ask, cwd=tmp_path, **path).strip() == "200"


def test_the_entry_points_of_the_wheel_can_be_loaded(site: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import distributions\n"
        f"(found,) = [each for each in distributions(path=[{str(site)!r}]) if each.name == 'gtpick-rt']\n"
        "points = [point for point in found.entry_points if point.load() is not None]\n"
        "print(*sorted(point.name for point in points))"
    )
    names = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site)).split()
    assert names == sorted(["gtpick-rt", "gtpick-relion", "simulate", "train", "export", "finetune", "adapt"])


PICK = ("pick", str(SAMPLE), "--diameter", "214", "--out", "picks")
IMPORTED = (
    *("gtpick_rt.monitor.serving", "gtpick_rt.report.page"),
    *("gtpick_rt.cluster.starting", "gtpick_rt.cluster.slurm", "gtpick_rt.evaluate.drawing"),
    *("tensorrt_rtx", "cuda.bindings.runtime"),
)
"""What the extras monitor, cluster, plot and rtx are for."""
UNREACHABLE = ("No matching distribution", "Failed to fetch")
"""What pip and uv say without a package index."""


def install(tool: str, *arguments: str, cwd: Path, **environment: str) -> str:
    """Let pip, pipx or uv install something; returns what it says. Skips where it cannot be
    tried.
    """
    pytest.importorskip(tool, reason=f"{tool} is not installed: pip install {tool}")
    command = (sys.executable, "-m", tool, *arguments)
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    if any(words in done.stderr for words in UNREACHABLE):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def assert_picks(programs: Path, cwd: Path) -> None:
    run(str(programs / "gtpick-rt"), *PICK, cwd=cwd)
    assert (cwd / "picks" / "autopick.star").exists()


@pytest.mark.timeout(900)
def test_the_extra_cpu_is_all_that_picking_needs(wheel: Path, tmp_path: Path) -> None:
    """In an empty environment, as pip installs it."""
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"), cwd=tmp_path)
    programs = tmp_path / "venv" / "bin"
    options = ("--quiet", "--no-compile", "--disable-pip-version-check")
    install("pip", "--python", str(programs / "python"), "install", *options, f"{wheel}[cpu]", cwd=tmp_path)
    assert_picks(programs, tmp_path)


@pytest.mark.timeout(900)
def test_pipx_installs_programs_that_pick(wheel: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    places = {"PIPX_HOME": str(tmp_path), "PIPX_BIN_DIR": str(programs), "PIPX_MAN_DIR": str(tmp_path)}
    install("pipx", "install", "--python", sys.executable, f"{wheel}[cpu]", cwd=tmp_path, **places)
    assert_picks(programs, tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorRT-RTX is made for x86_64 alone")
def test_uv_installs_programs_with_all_that_monitor_cluster_plots_and_rtx_cards_need(
    wheel: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    places = {"UV_TOOL_DIR": str(tmp_path), "UV_TOOL_BIN_DIR": str(programs)}
    wanted = f"gtpick-rt[cpu,monitor,cluster,plot,rtx] @ {wheel.as_uri()}"
    install("uv", "tool", "install", "--python", sys.executable, wanted, cwd=tmp_path, **places)
    assert run(str(programs / "gtpick-rt"), "--version", cwd=tmp_path).startswith("gtpick-rt ")
    python = str(tmp_path / "gtpick-rt" / "bin" / "python")
    run(python, "-c", f"import {', '.join(IMPORTED)}; from matplotlib import pyplot", cwd=tmp_path)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorRT-RTX is made for x86_64 alone")
def test_what_an_rtx_card_with_an_older_driver_needs_can_be_had(wheel: Path, tmp_path: Path) -> None:
    """Found and not fetched."""
    options = ("--dry-run", "--python", sys.executable, "--target", str(tmp_path / "site"))
    found = install("uv", "pip", "install", *options, f"gtpick-rt[cpu,rtx12] @ {wheel.as_uri()}", cwd=tmp_path)
    assert {"onnxruntime", "cuda-python", "tensorrt-rtx-cu12"} <= {
        line.split()[1].partition("==")[0] for line in found.splitlines() if line.startswith(" + ")
    }


@pytest.mark.parametrize(("target", "stamp"), [("pick", "pick"), ("docs", "docs"), ("check", "dev")])
def test_make_runs_the_sources_as_they_are(target: str, stamp: str, tmp_path: Path) -> None:
    """It installs them once and not as a copy; one that pip put there gives way to them."""
    site = tmp_path / "lib" / "python3.12" / "site-packages" / "gtpick_rt"
    for path in (tmp_path / "bin" / "python", tmp_path / f".installed-{stamp}", site / "__init__.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    plan = ("make", "--dry-run", target, f"VENV={tmp_path}")
    assert " --editable '.[" in run(*plan, cwd=ROOT, MAKEFLAGS="")
    (site / "__init__.py").unlink()
    assert "pip install" not in run(*plan, cwd=ROOT, MAKEFLAGS="")
