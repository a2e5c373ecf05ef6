"""What the user says of workers is understood, or refused before it could mean something else."""

import re

import pytest

from gtpick_rt.cluster.specs import ExistingScheduler, LocalGpus, LocalWorkers, SlurmJobs, gpu_ids
from gtpick_rt.errors import UsageError

JOBS = {"count": 2, "cores": 4, "memory": "4GB", "time": "08:00:00"}
HOSTILE = (
    *("a b", "a\nsrun rm", "a;b", "$(b)", "`b`", "a\rb", "a\x0bb", "a\u2028b", "", "a'b", 'a"b', "a#b", "a\\b", "é"),
    *("-o/etc", "--output=x"),
)


@pytest.mark.parametrize("name", ["partition", "account", "memory", "time"])
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_can_be_more_than_one_word_of_its_line(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"cannot stand in a Slurm script; give something like"):
        SlurmJobs(**(JOBS | {name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        *(f"--comment={value}" for value in HOSTILE if value and not value.startswith("-")),
        *("--comment=", "gres=gpu:1", "-N2", "--Gres=gpu:1", "--", "--gres=$(rm)", "--gres=gpu:1 --uid=0"),
    ],
)
def test_further_options_cannot_be_anything_else(value: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a Slurm script"):
        SlurmJobs(**JOBS, directives=(value,))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["array=1-9", "wrap=x", "uid=0", "time=1", "chdir=x", "export=ALL"])
def test_options_that_change_what_a_job_is_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--job-option --{name}: is set already"):
        SlurmJobs(**JOBS, directives=(f"--{name}",))  # type: ignore[arg-type]


def test_what_sites_need_is_accepted() -> None:
    options = (
        "--gres=gpu:a100:1",
        "--constraint=rtx&mem|new",
        "--exclude=node[1-3],node7",
        "--qos=high",
        "--exclusive",
    )
    jobs = SlurmJobs(**JOBS, partition="gpu,gpu-long", account="lab.1_a", directives=options)  # type: ignore[arg-type]
    assert jobs.directives == options


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("02:00:00", 7200),
        ("1-0", 86400),
        ("2-12:30", 2 * 86400 + 45000),
        ("1-00:00:10", 86410),
    ],
)
def test_times_are_read_as_slurm_does(time: str, seconds: int) -> None:
    assert SlurmJobs(**(JOBS | {"time": time})).seconds == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("time", ["0", "00:00:00"])
def test_jobs_need_some_time(time: str) -> None:
    with pytest.raises(UsageError, match="more than no time"):
        SlurmJobs(**(JOBS | {"time": time}))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "a", "0,a", "0,,1", "0;1", "-1", "0,0"])
def test_gpus_are_numbers_each_once(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape("--gpus")):
        LocalGpus(gpu_ids(text))


def test_gpus_are_told_by_their_numbers() -> None:
    assert LocalGpus(gpu_ids("2,0")).ids == (2, 0)


@pytest.mark.parametrize("where", ["node1", "http://node1:8786", "tls://a b", "nothing.json"])
def test_a_scheduler_is_an_address_or_a_file(where: str) -> None:
    with pytest.raises(UsageError, match="neither an address"):
        ExistingScheduler(where)


def test_there_must_be_a_worker() -> None:
    with pytest.raises(UsageError, match="1 or more"):
        LocalWorkers(0)
