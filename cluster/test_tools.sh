#!/usr/bin/env bash
# What tests drive beside Python: a headless Chromium for the page, LaTeX for the tables, PostgreSQL behind MLflow. Run by
# `make test` on first use. Without them those tests skip and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'test tools: %s\n' "$*"; }
packages=()
[ -n "${HARNESS_CHROMIUM:-}" ] || command -v chromium-headless-shell chromium chromium-browser google-chrome >/dev/null ||
  packages+=(chromium-headless-shell)
command -v pdflatex >/dev/null || packages+=(texlive-latex-recommended)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || packages+=(postgresql)
command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
if [ ${#packages[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
    say "${packages[*]}: what needs it will not be tested; for that: sudo bash -c '$command'"
  else
    say "installing ${packages[*]}"
    "${as_root[@]}" bash -c "export DEBIAN_FRONTEND=noninteractive; $command" >.venv/test_tools.log 2>&1 ||
      say "apt-get failed, see .venv/test_tools.log; what needs ${packages[*]} will not be tested"
  fi
fi
touch .venv/test_tools
