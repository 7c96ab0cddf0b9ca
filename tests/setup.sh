#!/usr/bin/env bash
# Install NIST's scoring tools (Debian: sctk), the reference for counts and significance tests; a browser that opens the
# reports; PostgreSQL and Slurm for searches on several machines. If they cannot be installed, the tests that need them are
# skipped with a message.
set -euo pipefail
wanted=()
[[ -x /usr/lib/sctk/bin/sclite ]] || command -v sclite > /dev/null || wanted+=(sctk)
command -v chromium > /dev/null || command -v google-chrome > /dev/null || wanted+=(chromium)
compgen -G "/usr/lib/postgresql/*/bin/pg_ctl" > /dev/null || command -v pg_ctl > /dev/null || wanted+=(postgresql)
command -v slurmctld > /dev/null || wanted+=(slurm-wlm)
install() {
  [[ $(id -u) == 0 ]] && command -v apt-get > /dev/null || return 1
  echo "setup: installing $1"
  export DEBIAN_FRONTEND=noninteractive
  { timeout 300 apt-get install -qq "$1" || { timeout 100 apt-get update -qq && timeout 300 apt-get install -qq "$1"; }; } > /dev/null 2>&1
}
for package in ${wanted[@]+"${wanted[@]}"}; do
  install "$package" ||
    echo "setup: no $package (as root: apt-get install $package); the tests that need it will be skipped" >&2
done
