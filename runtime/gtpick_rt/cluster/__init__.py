"""Picking in several processes by Dask: workers here, on GPUs, or as jobs of Slurm; needs the extra
cluster.

In come what `pipeline` takes and a specification of the workers, out comes the same `Summary`.
Nothing of commands may be imported here.
"""
