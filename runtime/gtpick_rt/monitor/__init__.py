"""A web page that shows a run as it goes on; needs the extra monitor. It reads the output folder and nothing else."""
