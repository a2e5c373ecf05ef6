#!/bin/bash
# Eight jobs share one output folder; each picks the micrographs that fall into its part.
#   sbatch deploy/slurm.sh /data/micrographs /data/picks
#SBATCH --job-name=picking
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
srun apptainer run --nv --bind /data --app pick gtpick.sif "$1" --out "$2" --diameter 160 \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
