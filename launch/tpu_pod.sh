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
    # Each host keeps a log and goes on when the terminal hangs up. The malloc settings keep buffers instead of giving
    # them back to the system at every clip, which makes decoding faster.
    on_all_hosts "cd cmav && export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000 && CMAV_DATA=$BUCKET/shards nohup .venv/bin/python -m cmav.main --workdir=$BUCKET/runs/$run $args> train.log 2>&1 < /dev/null & sleep 60; tail -n 5 cmav/train.log"
    ;;
  log)
    on_all_hosts "tail -n 5 cmav/train.log"
    ;;
  delete)
    gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force
    ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
