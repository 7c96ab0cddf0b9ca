#!/usr/bin/env bash
# Debian's NIST scoring tools, which counts and significance tests are held against. Where they cannot be installed the tests
# that need them are skipped, and say so.
set -euo pipefail
wanted=()
[[ -x /usr/lib/sctk/bin/sclite ]] || command -v sclite > /dev/null || wanted+=(sctk)
if ((${#wanted[@]} == 0)); then
  exit 0
fi
if [[ $(id -u) == 0 ]] && command -v apt-get > /dev/null; then
  echo "setup: installing ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get install -qq "${wanted[@]}" || { apt-get update -qq && apt-get install -qq "${wanted[@]}"; }; } > /dev/null 2>&1 && exit 0
fi
echo "setup: ${wanted[*]} not installed (as root: apt-get install ${wanted[*]}); the tests that need it will be skipped" >&2
