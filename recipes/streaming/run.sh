#!/usr/bin/env bash
# Train a model that recognizes speech while it is spoken, on speechocean762, and measure it against look-ahead.
#   recipes/streaming/run.sh CORPUS_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare, 2 train, 3 tune the decoder, 4 evaluate on dev and test, 5 error rate against look-ahead, latency
# and streams at once. The model learns from the bundled speechocean762-small. DATA and RUN change the folders; TRAIN names a
# manifest to learn from instead of the train part: the bundled model's is that of recipes/english/student.sh, stage 6.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
data="${DATA:-data/speechocean762}"
run="${RUN:-runs/streaming}"
corpus_argument CORPUS_DIR

if at 0 "set up .venv"; then
  bash recipes/setup.sh microphone
fi
check_overrides 2 experiment=streaming ${overrides[@]+"${overrides[@]}"}
if at 1 "prepare speechocean762 in $data"; then
  make_corpus "$data" asr prepare speechocean762 "$corpus" "$data"
fi
if at 2 "train in $run"; then
  train="${TRAIN:-cuts_train.jsonl.gz}"
  [[ $train == cuts_train.jsonl.gz || $train == /* ]] || train="$invoked_from/$train"
  train_run "$run" experiment=streaming corpus.dir="$data" corpus.train="$train" ${overrides[@]+"${overrides[@]}"}
fi
if at 3 "tune the decoder"; then
  tune_decoder "$run" "$data"
fi
if at 4 "evaluate"; then
  evaluate_sets "$run" "$data" dev test
fi
if at 5 "look-ahead, latency, streams at once"; then
  python -m benchmarks.streaming "$run/model" asr/data/models/speechocean762-small "$data/cuts_test.jsonl.gz" \
    --json "$run/streaming.json" --plot "$run/look_ahead.svg"
fi
