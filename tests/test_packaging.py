"""The wheel holds exactly the three packages, and works when it alone is installed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"gtpick_model": ROOT, "gtpick_export": ROOT / "export", "gtpick_rt": ROOT / "runtime"}
RUNTIME_TESTS = ROOT / "tests" / "runtime"


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
    kinds = {".py", ".typed", ".onnx", ".mrc", ".safetensors", ".md", ".html", ".css", ".js"}
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


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_from_the_installed_wheel(package: str, site: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import {package}; print({package}.__file__)"
    file = Path(run(sys.executable, "-I", "-c", code, cwd=tmp_path).strip())
    assert file.is_relative_to(site)


@pytest.mark.timeout(1800)
def test_the_runtime_tests_pass_against_the_installed_wheel(site: Path, tmp_path: Path) -> None:
    path = {"PYTHONPATH": str(site)}
    where = "import gtpick_rt; print(gtpick_rt.__file__)"
    assert Path(run(sys.executable, "-c", where, cwd=tmp_path, **path).strip()).is_relative_to(site)
    pytest_ = (sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-q")
    assert " passed" in run(*pytest_, str(RUNTIME_TESTS), f"--ignore={RUNTIME_TESTS / 'cluster'}", cwd=tmp_path, **path)
