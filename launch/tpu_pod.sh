#!/usr/bin/env bash
# Pretrains on a Cloud TPU pod slice: asks for the slice in the queue, installs cmav on every host, starts the same command on all.
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
    until gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)' | tee /dev/stderr | grep -q ACTIVE; do
      sleep 30
    done
    ;;
  install)
    root="$(cd "$(dirname "$0")/.." && pwd)"
    git -C "$root" archive --prefix=cmav/ --output=/tmp/cmav.tar HEAD
    gcloud compute tpus tpu-vm scp /tmp/cmav.tar "$NAME":cmav.tar --zone="$ZONE" --worker=all
    on_all_hosts "tar xf cmav.tar && cd cmav && python3.11 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[tpu]'"
    ;;
  train)
    : "${BUCKET:?a bucket that the slice can read and write, e.g. gs://my-bucket}"
    shift
    config="$(printf '%s\n' "$@" | sed -n 's/^--config=//p')"
    run="$(basename "${config:?--config=configs/….py}" .py)"
    # Of hosts that hang up with the terminal nothing would be left: each keeps a log, and goes on without us.
    on_all_hosts "cd cmav && CMAV_DATA=$BUCKET/shards nohup .venv/bin/python -m cmav.main --workdir=$BUCKET/runs/$run $* > train.log 2>&1 < /dev/null & sleep 60; tail -n 5 cmav/train.log"
    ;;
  log)
    on_all_hosts "tail -n 5 cmav/train.log"
    ;;
  delete)
    gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force
    ;;
  *)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
