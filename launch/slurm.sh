#!/usr/bin/env bash
# Pretrains, or runs another of cmav's commands, on a Slurm cluster, one process per GPU:
#
#   sbatch --nodes=2 launch/slurm.sh --config=configs/avs_cma.py
#   sbatch launch/slurm.sh cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma
#
# A job that is requeued, or submitted again, goes on where it was. Slurm's SIGTERM comes 120 s before the end; the
# trainer saves then. Data: $CMAV_DATA, on storage that every node sees, as --workdir must be.
#SBATCH --job-name=cmav
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch, from the folder of cmav}"

# glibc gives large buffers back to the system and asks for them anew at every clip; keeping them makes decoding faster.
export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000

# Each process sees all GPUs of its node and takes the one of its local rank: jax.distributed does that under Slurm.
command=cmav.main
if [[ "${1:-}" == cmav.* ]]; then
  command=$1
  shift
fi
srun --kill-on-bad-exit=1 .venv/bin/python -m "$command" "$@"
