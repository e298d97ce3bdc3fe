#!/usr/bin/env bash
# Makes .venv from requirements.lock: the system packages FFCV compiles against, then the exact Python packages.
# Run by make on first use; running it again changes nothing that is already right.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# HARNESS_PYTHON names an interpreter; otherwise the first Python 3.11 or 3.12 found.
find_python() {
  local candidate
  for candidate in ${HARNESS_PYTHON:-python3 python3.12 python3.11 python}; do
    if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# FFCV has no wheel: it is compiled here, against these three Debian packages. HARNESS_WITHOUT_FFCV=1 leaves it out.
system_packages=(pkg-config libopencv-dev libturbojpeg0-dev)
install_system_packages() {
  if [ -n "${HARNESS_WITHOUT_FFCV:-}" ] || pkg-config --exists opencv4 libturbojpeg 2>/dev/null; then return; fi
  local command="apt-get update && apt-get install -y --no-install-recommends ${system_packages[*]}"
  command -v apt-get >/dev/null ||
    fail "FFCV needs OpenCV and libjpeg-turbo headers (Debian: ${system_packages[*]}); install them and run make again,
setup: or set HARNESS_WITHOUT_FFCV=1 to read images by torchvision."
  if [ "$(id -u)" = 0 ]; then
    say "installing ${system_packages[*]}"
    bash -c "export DEBIAN_FRONTEND=noninteractive; $command" >.venv/apt.log 2>&1 || fail "apt-get failed, see .venv/apt.log"
  elif sudo -n true 2>/dev/null; then
    say "installing ${system_packages[*]} with sudo"
    # shellcheck disable=SC2024  # the log is this user's
    sudo -n bash -c "export DEBIAN_FRONTEND=noninteractive; $command" >.venv/apt.log 2>&1 ||
      fail "apt-get failed, see .venv/apt.log"
  else
    fail "FFCV needs system packages this user may not install. Ask for: sudo bash -c '$command'
setup: or set HARNESS_WITHOUT_FFCV=1 to read images by torchvision."
  fi
}

started=$SECONDS
python=$(find_python) || fail "Python 3.11 or 3.12 with venv is needed; name one with HARNESS_PYTHON=/path/to/python3.12"
if [ ! -x .venv/bin/python ]; then
  say "creating .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
[ -n "${HARNESS_WITHOUT_FFCV:-}" ] || command -v c++ >/dev/null || fail "FFCV is compiled at install and needs a C++ compiler (Debian: g++)."
install_system_packages
say "installing the locked Python packages (torch brings 4.6 GB)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
lock=requirements.lock
if [ -n "${HARNESS_WITHOUT_FFCV:-}" ]; then
  lock=.venv/without-ffcv.lock # the same, less one entry: its line and the hashes indented below
  awk '/^[^ ]/ { left_out = /^ffcv==/ } !left_out' requirements.lock >"$lock"
fi
.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r "$lock"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
# Byte code now, in parallel, instead of module by module at the first import of every process.
.venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null || say "some package could not be byte-compiled (harmless)"
touch .venv/ready
say "done in $((SECONDS - started)) s"
