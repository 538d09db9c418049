#!/usr/bin/env bash
# Pretrains, or runs another of cmav's commands, on a Slurm cluster, one process per GPU:
#
#   sbatch --nodes=2 launch/slurm.sh --config=configs/avs_cma.py
#   sbatch launch/slurm.sh cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma
#
# A job that is requeued, or submitted again, goes on where it was. 120 s before the time limit Slurm sends SIGTERM; the
# trainer saves then, and the job queues itself again until training is over. A job that is cancelled does not. Data:
# $CMAV_DATA, on storage that every node sees, as --workdir must be.
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

# Each process sees all GPUs of its node and takes the one of its local rank: jax.distributed does that under Slurm.
command=cmav.main
if [[ "${1:-}" == cmav.* ]]; then
  command=$1
  shift
fi

# --signal=TERM@120 signals the processes; --signal=B:…@120, and scancel, this shell: then srun passes it on to them.
step= asked=
pass_on() {
  asked=1
  [[ -z "$step" ]] || kill -TERM "$step" 2>/dev/null || true
}
trap pass_on TERM USR1 USR2

# From Slurm 22.05 on srun does not take the cores of a task over from the job.
srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  .venv/bin/python -m "$command" "$@" &
step=$!
[[ -z "$asked" ]] || pass_on # The signal came before the step.
status=0
wait "$step" || status=$?
while kill -0 "$step" 2>/dev/null; do # A signal has ended the waiting, not the step.
  status=0
  wait "$step" || status=$?
done
trap '' TERM USR1 USR2

if [[ $status == 143 ]]; then # Asked to stop, and saved.
  if [[ "$(scontrol show job "$SLURM_JOB_ID")" == *JobState=RUNNING* ]]; then
    scontrol requeue "$SLURM_JOB_ID" || echo "not queued again: submit it once more, and it goes on where it was" >&2
  else
    echo "cancelled: submitted again, it goes on where it was" >&2
  fi
fi
exit "$status"
