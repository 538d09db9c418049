#!/usr/bin/env bash
# Pretrains on a Cloud TPU pod slice: asks for the slice in the queue, installs cmav on every host, starts the same
# command on all.
#
#   ZONE=us-central2-b TYPE=v4-32 NAME=cmav BUCKET=gs://my-bucket launch/tpu_pod.sh create   # waits until it is there
#   … launch/tpu_pod.sh install
#   … launch/tpu_pod.sh train --config=configs/avs_cma.py    # again after a preemption: it goes on where it was
#   … launch/tpu_pod.sh delete
#
# Shards lie in $BUCKET/shards (build_tfrecords.py writes there with --out $BUCKET/shards), runs in $BUCKET/runs.
set -euo pipefail

: "${NAME:=cmav}" "${ZONE:?zone of the TPU, e.g. us-central2-b}" "${TYPE:=v4-32}" "${RUNTIME:=tpu-ubuntu2204-base}"

# The end of a host's log, and the status of what has ended there.
show='tail -n 5 train.log; [[ ! -e train.status ]] || { echo "$(hostname): ended with status $(cat train.status)"; exit "$(cat train.status)"; }'

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

case "${1:-}" in
  create)
    gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
      --accelerator-type="$TYPE" --runtime-version="$RUNTIME" ${SPOT:+--spot}
    state=
    until [[ "$state" == ACTIVE ]]; do
      sleep 30
      state="$(gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)')"
      echo "$(date +%T) $state"
      [[ "$state" != FAILED && "$state" != SUSPENDED ]] || { echo "no slice: launch/tpu_pod.sh delete, then create" >&2; exit 1; }
    done
    ;;
  install)
    root="$(cd "$(dirname "$0")/.." && pwd)"
    git -C "$root" archive --prefix=cmav/ --output=/tmp/cmav.tar HEAD
    gcloud compute tpus tpu-vm scp /tmp/cmav.tar "$NAME":cmav.tar --zone="$ZONE" --worker=all
    on_all_hosts "sudo apt-get -q update && sudo apt-get -qy install python3.11-venv"
    on_all_hosts "tar xf cmav.tar && cd cmav && python3.11 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[tpu]'"
    ;;
  train)
    : "${BUCKET:?a bucket that the slice can read and write, e.g. gs://my-bucket}"
    shift
    config="$(printf '%s\n' "$@" | sed -n 's/^--config=//p')"
    args="$(printf '%q ' "$@")"
    run="$(basename "${config:?--config=configs/….py}" .py)"
    # Each host keeps a log and the status, and goes on when the terminal hangs up. What is over within a minute has
    # failed, and its status is that of this script.
    command=".venv/bin/python -m cmav.main --workdir=$BUCKET/runs/$run $args"
    on_all_hosts "cd cmav && rm -f train.status
      export CMAV_DATA=$BUCKET/shards
      nohup bash -c $(printf '%q' "$command; echo \$? > train.status") > train.log 2>&1 < /dev/null &
      for second in {1..${SECONDS_TO_WATCH:-60}}; do [[ -e train.status ]] && break; sleep 1; done
      $show"
    ;;
  log)
    on_all_hosts "cd cmav; $show"
    ;;
  delete)
    gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force
    ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
