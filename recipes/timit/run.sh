#!/usr/bin/env bash
# Train and test on TIMIT (LDC93S1), which you must have.
#   recipes/timit/run.sh TIMIT_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare, 2 train, 3 evaluate on dev, core test and full test.
# EXPERIMENT=graves2013 trains the network of Graves, Mohamed and Hinton (2013); DATA and RUN change the folders.
set -euo pipefail
invoked_from="$PWD"
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
experiment="${EXPERIMENT:-timit}"
data="${DATA:-data/timit}"
run="${RUN:-runs/$experiment}"

if at 0 "set up .venv"; then
  bash recipes/setup.sh
fi
if at 1 "prepare TIMIT in $data"; then
  if ((${#rest[@]} == 0)); then
    echo "$0: no TIMIT_DIR, expected the folder of the corpus" >&2
    exit 2
  fi
  corpus="${rest[0]}"
  [[ $corpus == /* ]] || corpus="$invoked_from/$corpus"
  asr prepare timit "$corpus" "$data"
fi
if at 2 "train in $run"; then
  train_run "$run" experiment="$experiment" corpus.dir="$data" ${rest[@]+"${rest[@]:1}"}
fi
if at 3 "evaluate"; then
  for set in dev test fulltest; do
    echo "-- $set"
    asr evaluate "$run/model" "$data/cuts_$set.jsonl.gz" --json "$run/$set.json"
  done
fi
