#!/usr/bin/env bash
# One node's part of exclusive.sbatch: options of `ray start`, then --, then the driver, which begins on the first node.
set -uo pipefail

trap 'rm -rf "/tmp/ray-$SLURM_JOB_ID"' EXIT
trap : TERM # which ends Ray; this script sees to the rest
if [ -n "$HARNESS_SCRATCH" ]; then mkdir -p "$HARNESS_SCRATCH"; fi
code=0
ray symmetric-run --address="$RAY_ADDRESS" --min-nodes="$SLURM_NNODES" --temp-dir="/tmp/ray-$SLURM_JOB_ID" \
  --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@" || code=$?
if [ "$SLURM_NODEID" != 0 ]; then exit 0; fi
# By themselves the other nodes notice after a minute that their head is gone.
scancel --signal=TERM "$SLURM_JOB_ID.$SLURM_STEP_ID" 2>/dev/null || true # or somebody has cancelled them
exit "$code"
