#!/usr/bin/env bash
# One node's Ray for shared.sbatch, with what `ray start` is given besides. SIGTERM ends it and nothing else here.
set -euo pipefail

stopping='' ray=''
end_ray() {
  stopping=yes
  if [ -n "$ray" ]; then kill -TERM "$ray" 2>/dev/null || true; fi
}
trap end_ray TERM
if [ -n "$HARNESS_SCRATCH" ]; then mkdir -p "$HARNESS_SCRATCH"; fi
folder=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXX") # short, for the paths of sockets
trap 'rm -rf "$folder"' EXIT
host=${RAY_ADDRESS%:*} port=${RAY_ADDRESS##*:}
if [ "$SLURM_NODEID" = 0 ]; then
  role=(--head --port="$port" --node-ip-address="$host" --include-dashboard=false)
else
  role=(--address="$RAY_ADDRESS")
  for _ in {1..300}; do # Ray itself would give up before a busy head answers
    if [ -n "$stopping" ] || (: <>"/dev/tcp/$host/$port") 2>/dev/null; then break; fi
    sleep 1
  done
fi
code=0
if [ -z "$stopping" ]; then
  ray start "${role[@]}" --block --temp-dir="$folder" --node-name="$SLURMD_NODENAME" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@" &
  ray=$!
  if [ -n "$stopping" ]; then end_ray; fi
  wait "$ray" || code=$?
fi
if [ -n "$stopping" ]; then
  wait || true # a signal ends the first wait, not Ray
  exit 0
fi
cp -r "$folder/session_latest/logs" "$(dirname "$RAY_AUTH_TOKEN_PATH")/ray-$SLURM_NODEID" || true # nobody asked for it
exit "$code"
