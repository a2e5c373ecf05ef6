"""Pick the exposures of a cryoSPARC job with gtpick-rt, and hand the picks back as the output of an
External job.

    python cryosparc_job.py P3 W1 J5 exposures --diameter 160

J5 and exposures are the job that made the micrographs and the name of its output; whatever follows
goes to `gtpick-rt pick`. Needs cryosparc-tools of the server's version, a login (`python -m
cryosparc.tools login`), and a machine that sees the project folder.
"""

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryosparc.dataset import Dataset
from cryosparc.tools import CryoSPARC

SLOTS = ["micrograph_blob", "mscope_params"]
SOME_FAILED = 3
"""Exit code of `gtpick-rt pick` when micrographs were left out; its output names them."""


def pick(exposures: Dataset, project: Path, folder: Path, options: Sequence[str]) -> tuple[Dataset, str]:
    """Pick `exposures`, whose paths are relative to `project`, with files in `folder`: the picks,
    and what was said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exposures.save(folder / "exposures.cs")
    command = ["gtpick-rt", "pick", str(folder / "exposures.cs"), "--out", str(folder), "--formats", "cs", *options]
    done = subprocess.run(  # noqa: S603
        command, cwd=project, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode not in (0, SOME_FAILED):
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}")
    return Dataset.load(folder / "picks.cs"), done.stdout


def fill(output: Dataset, picks: Dataset) -> Dataset:
    """Copy the fields of `picks` that cryoSPARC has allocated; those that no picker but its own has
    stay 0.
    """
    for field in set(output.fields(exclude_uid=True)) & set(picks.fields()):
        output[field] = picks[field]
    return output


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("project", "workspace", "job", "output"):
        parser.add_argument(name)
    arguments, options = parser.parse_known_args()
    project = CryoSPARC().find_project(arguments.project)
    job = project.create_external_job(arguments.workspace, title="gtpick-rt")
    job.connect("micrographs", arguments.job, arguments.output, slots=SLOTS)
    job.add_output("particle", "picks", slots=["location", "pick_stats"])  # of exposures nothing can be passed through
    with job.run():
        exposures = job.load_input("micrographs", SLOTS)
        folder = Path(f"gtpick_{project.uid}_{job.uid}").absolute()
        picks, said = pick(exposures, Path(str(project.dir)), folder, options)
        job.log(said)
        job.save_output("picks", fill(job.alloc_output("picks", picks["uid"]), picks))


if __name__ == "__main__":
    main()
