"""dask-jobqueue, without the file that importing it leaves in the user's home."""

import dask

_ensure_file, dask.config.ensure_file = dask.config.ensure_file, lambda **_: None
try:
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob, slurm_format_bytes_ceil
finally:
    dask.config.ensure_file = _ensure_file

__all__ = ["SLURMCluster", "SLURMJob", "slurm_format_bytes_ceil"]
