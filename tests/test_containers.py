"""deploy/: the Dockerfile's steps install what picks as any user on a read-only root without a
home, the Apptainer definition does the same, and the jobs' commands are valid.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from gtpick_rt.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SAMPLE = ROOT / "sample" / "sim_0000.mrc"
NOBODY = "65534"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def arguments_of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_dockerfile_keeps_the_rules_of_its_kind() -> None:
    """Those of hadolint that can be broken here: a tag on every image, exec form, a user that is
    not root, nothing of pip's cache.
    """
    assert all(":" in image.partition(" AS ")[0] for image in arguments_of("FROM"))
    assert all(rest.startswith("[") for word in ("ENTRYPOINT", "CMD") for rest in arguments_of(word))
    assert [rest.partition(":")[0] for rest in arguments_of("USER")] == [NOBODY]
    assert all("--no-cache-dir" in step for step in arguments_of("RUN"))
    assert not arguments_of("ADD")
    assert not [step for step in arguments_of("RUN") if re.search(r"\b(sudo|cd|apt|curl|wget)\b", step)]


def test_the_image_is_built_of_what_the_wheel_needs_alone() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == {"LICENSE", "README.md", "pyproject.toml", "export", "gtpick_model", "runtime"}


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def venv(room: Path) -> Path:
    """An empty environment after the RUN steps of the Dockerfile, with the copies before them."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in kept:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (room / "src").mkdir(exist_ok=True)
        copy(ROOT / name, room / "src" / name)
    subprocess.run([sys.executable, "-m", "venv", room / "venv"], check=True)
    defaults = dict(rest.split("=", 1) for rest in arguments_of("ARG"))
    environment = os.environ | defaults | {"PATH": f"{room / 'venv' / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    for step in arguments_of("RUN"):
        here = re.sub(r"/(src|wheels)\b", rf"{room}/\1", step)
        done = subprocess.run(["sh", "-ec", here], env=environment, capture_output=True, text=True, check=False)
        if "No matching distribution" in done.stderr:
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, f"{here}\n{done.stderr}"
    return room / "venv"


@pytest.fixture
def shut_in(room: Path, venv: Path) -> list[str]:
    """What runs a command as nobody, on a read-only root with one folder to write, with no home."""
    writable = room / "data"
    writable.mkdir(exist_ok=True)
    writable.chmod(0o777)
    mounts = f"mount --make-rprivate / && mount --bind {writable} {writable} && mount -o remount,ro,bind /"
    reads = "-all,+dac_read_search"  # of root's rights: the interpreter may lie in root's home
    user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps={reads} --ambient-caps={reads}"
    shell = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'{mounts} && cd {writable} && exec {user} env -i PATH=/usr/bin:/bin "$@"',
        "sh",
    ]
    tried = subprocess.run([*shell, sys.executable, "-c", "pass"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this user cannot make the root read-only, or nobody cannot run Python: {tried.stderr.strip()}")
    assert subprocess.run([*shell, "touch", str(room / "venv" / "x")], capture_output=True, check=False).returncode
    return shell


@pytest.mark.timeout(900)
def test_the_image_picks_as_any_user_on_a_read_only_root_without_a_home(
    venv: Path, room: Path, shut_in: list[str]
) -> None:
    shutil.copy(SAMPLE, room / "sample.mrc")
    (program,) = re.findall(r'\["([\w-]+)"\]', arguments_of("ENTRYPOINT")[0])
    command = [venv / "bin" / program, "pick", room / "sample.mrc", "--diameter", "214", "--out", "picks"]
    done = subprocess.run([*shut_in, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    star = room / "data" / "picks" / "sample_autopick.star"
    assert len(star.read_text().splitlines()) > 10
    assert star.stat().st_uid == int(NOBODY)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", [("gtpick-relion",), ("gtpick-rt", "monitor"), ("gtpick-rt", "doctor")])
def test_the_other_programs_start_there_too(program: tuple[str, ...], venv: Path, shut_in: list[str]) -> None:
    name, *arguments = program
    more = [] if "doctor" in arguments else ["--help"]
    done = subprocess.run(
        [*shut_in, str(venv / "bin" / name), *arguments, *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def sections() -> dict[str, str]:
    parts = re.split(r"^%(\w+(?: \w+)?)$", (DEPLOY / "gtpick.def").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_apptainer_installs_what_docker_installs() -> None:
    (defaults,) = (rest for rest in arguments_of("ARG") if rest.startswith("EXTRAS"))
    assert sections()["arguments"].strip() == defaults
    install = sections()["post"].strip().replace("{{ EXTRAS }}", "${EXTRAS}").replace("gtpick_rt-*", "*")
    assert install == arguments_of("RUN")[-1]
    apps = {name.split()[1]: body.strip() for name, body in sections().items() if name.startswith("apprun ")}
    assert apps == {
        "pick": 'exec gtpick-rt pick "$@"',
        "monitor": 'exec gtpick-rt monitor "$@"',
        "relion": 'exec gtpick-relion "$@"',
    }


def parses(words: list[str]) -> None:
    get_command(app).commands["pick"].make_context("pick", words)  # type: ignore[attr-defined]


def test_the_command_of_the_slurm_job_is_valid() -> None:
    script = (DEPLOY / "slurm.sh").read_text()
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)
    (line,) = (line for line in script.replace("\\\n", " ").splitlines() if line.startswith("srun "))
    words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "1/8"))
    parses(words[words.index("gtpick.sif") + 1 :])


def documents(name: str) -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_kubernetes_job_picks_all_parts() -> None:
    (job,) = documents("kubernetes.yaml")
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert (job["kind"], spec["completionMode"], spec["completions"]) == ("Job", "Indexed", 8)
    (script,) = container["args"]
    shown = subprocess.run(
        ["sh", "-c", script.replace("exec gtpick-rt", "printf '%s\\n'")],
        env={"JOB_COMPLETION_INDEX": "7", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    command, *words = shown.stdout.split()
    assert (command, words[-1]) == ("pick", f"8/{spec['completions']}")
    parses(words)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert mounts == {"/data", "/tmp"}


def test_keda_scales_the_workers_that_serve_the_queue() -> None:
    workers, scaled = documents("keda.yaml")
    assert scaled["spec"]["scaleTargetRef"]["name"] == workers["metadata"]["name"]
    (trigger,) = scaled["spec"]["triggers"]
    queue = trigger["metadata"]["queueName"]
    assert f'("{queue}", "picks")' in (ROOT / "docs" / "facility_queue.py").read_text()
    labels = workers["spec"]["template"]["metadata"]["labels"]
    assert workers["spec"]["selector"]["matchLabels"] == labels
