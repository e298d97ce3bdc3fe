# shellcheck shell=bash disable=SC2034  # the scripts that source this use its variables
# What exclusive.sbatch and shared.sbatch have in common. Sourced in the checkout, with the words of the job.

say() { printf 'slurm: %s\n' "$*"; }
fail() { printf 'slurm: %s\n' "$*" >&2; exit 2; }

# The words are make's: names of tables and figures, PROFILE=, SEEDS=, CELL=, SITE=, and variables of the harness.
read_words() {
  local word
  command=(harness run)
  for word in "$@"; do
    case $word in
      SEEDS=* | CELL=*) command+=("--$(tr '[:upper:]' '[:lower:]' <<<"${word%%=*}")" "${word#*=}") ;;
      SITE=*) export HARNESS_SITE="${word#*=}" ;;
      PROFILE=* | HARNESS_*=* | MLFLOW_*=*) export "${word?}" ;;
      *=*) fail "unknown variable ${word%%=*}; there are PROFILE, SEEDS, CELL, SITE, HARNESS_... and MLFLOW_..." ;;
      *) command+=("$word") ;;
    esac
  done
  [ $# -gt 0 ] || fail "name what to make, as in: sbatch $SLURM_JOB_NAME table5b PROFILE=imagenet"
}

# By name the first node, where this script runs, as the others reach it.
own_address() {
  local name address
  name=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
  name=$(sinfo --noheader --nodes="$name" --format=%o | sed -n 1p) # the name or address that SLURM itself uses
  address=$(getent ahostsv4 "$name" | awk 'NR == 1 {print $1}')
  case $address in
    '' | 127.0.1.*) address=$(hostname -I | awk '{print $1}') ;; # Debian's name for a machine that nobody else knows
  esac
  [ -n "$address" ] || fail "the first node, $name, has no IPv4 address"
  echo "$address"
}

# Several jobs may share a node: each begins to look at another port.
free_port() {
  local port=$((20000 + SLURM_JOB_ID % 10000))
  while (: <>"/dev/tcp/$1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

prepare_job() {
  [ -x .venv/bin/harness ] || fail "$PWD has no .venv; submit from the checkout, after \`make setup\` there"
  export PATH="$PWD/.venv/bin:$PATH"
  read_words "$@"
  local home address
  home=$(harness site home) || exit 2
  HARNESS_SCRATCH=$(harness site scratch) || exit 2
  export HARNESS_SCRATCH # each node makes the folder
  logs=$home/slurm/$SLURM_JOB_ID
  mkdir -p "$logs"
  say "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST; logs in $logs"
  exec >>"$logs/job.log" 2>&1
  address=$(own_address) || exit 2
  RAY_ADDRESS=$address:$(free_port "$address")
  (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$logs/token")
  # Whoever reaches a Ray without a token runs what they like as this user.
  export RAY_ADDRESS RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$logs/token" RAY_USAGE_STATS_ENABLED=0
  # Nothing of size passes through Ray, whose default is a third of the memory. 0: whatever port is free.
  ray_options=(--object-store-memory=200000000 --dashboard-agent-listen-port=0 --min-worker-port=0 --max-worker-port=0)
  rm -f "$logs/driver" "$logs/stop"
  # The driver alone can have the runs save what they have earned: it leaves its id, and looks whether it came too late.
  # shellcheck disable=SC2016  # for the shell that becomes the driver
  driver=(bash -c 'echo "$$" >"$0/driver"; [ ! -e "$0/stop" ] || exit 143; exec "$@"' "$logs" "${command[@]}")
  step='' stopping='' told=''
  trap tell_driver TERM
}

tell_driver() {
  stopping=yes told=yes
  say "an end is asked for; the runs save what they have"
  touch "$logs/stop"
  if [ -s "$logs/driver" ]; then
    kill -TERM "$(<"$logs/driver")" 2>/dev/null || true
  elif [ -n "$step" ]; then # still waiting for nodes
    end_step
  fi
}

# SIGTERM to the processes of the one step there is. Sent to srun, it would have them killed.
end_step() {
  scancel --signal=TERM "$SLURM_JOB_ID.0" 2>/dev/null || kill -TERM "$step" 2>/dev/null || true
}

# The exit code of a process of ours. A signal to this script ends bash's wait, but not this one.
ended() {
  local code=0
  while :; do
    told='' code=0
    wait "$1" || code=$?
    [ -n "$told" ] || return "$code"
  done
}

# Asked to end, and saved: back into the queue, unless somebody cancelled the job. Finished or failed: that is all.
finish() {
  local code=$1
  rm -f "$logs/token" "$logs/driver" "$logs/stop"
  if [ -n "$stopping" ] && [ "$code" -gt 128 ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    code=143 # however it came to its end
    say "back into the queue"
    trap '' TERM # which ends this job
    scontrol requeue "$SLURM_JOB_ID" || say "not requeued; the same sbatch goes on from here"
  fi
  say "ended with $code"
  exit "$code"
}
