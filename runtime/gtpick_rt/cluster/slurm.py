"""Workers as jobs of Slurm."""

from collections.abc import Iterator
from contextlib import contextmanager

from gtpick_rt.cluster.crew import Crew
from gtpick_rt.cluster.places import SlurmJobs


@contextmanager
def slurm_jobs(place: SlurmJobs) -> Iterator[Crew]:
    """So many jobs, each with one worker."""
    raise NotImplementedError
    yield
