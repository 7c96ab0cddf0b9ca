#!/usr/bin/env bash
# Train and test on TIMIT (LDC93S1), which you need to have.
#   recipes/timit/run.sh TIMIT_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare, 2 synthesize speech, 3 pretrain on it, 4 train, 5 tune the decoder, 6 evaluate on dev, core
# test and full test. Overrides go to stage 4; those of the seed and the model also go to stage 3.
# EXPERIMENT=graves2013 trains the network of Graves, Mohamed and Hinton (2013), without stages 2 and 3. DATA and RUN change
# the folders.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
experiment="${EXPERIMENT:-timit}"
data="${DATA:-data/timit}"
run="${RUN:-runs/$experiment}"
dev="$data/cuts_dev.jsonl.gz"
[[ $dev == /* ]] || dev="$PWD/$dev"
corpus_argument TIMIT_DIR
shared_overrides ${overrides[@]+"${overrides[@]}"}
from_pretrained=(init_from="$run-made/model" trainer.flat_start_epochs=0)
if [[ $experiment == graves2013 ]]; then
  from_pretrained=()
fi

if at 0 "set up .venv"; then
  bash recipes/setup.sh synth
fi
check_overrides 4 experiment="$experiment" ${overrides[@]+"${overrides[@]}"}
if at 1 "prepare TIMIT in $data"; then
  asr prepare timit "$corpus" "$data"
fi
if ((${#from_pretrained[@]})) && at 2 "synthesize speech in $data-made"; then
  make_corpus "$data-made" asr prepare synth "$data-made" --speakers 450 --utterances 40
fi
if ((${#from_pretrained[@]})) && at 3 "pretrain in $run-made"; then
  train_run "$run-made" experiment="$experiment" pretraining=made corpus.dir="$data-made" \
    corpus.dev="$dev" ${shared[@]+"${shared[@]}"}
fi
if at 4 "train in $run"; then
  train_run "$run" experiment="$experiment" corpus.dir="$data" ${from_pretrained[@]+"${from_pretrained[@]}"} \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 5 "tune the decoder"; then
  tune_decoder "$run" "$data" --inventory timit61
fi
if at 6 "evaluate"; then
  evaluate_sets "$run" "$data" dev test fulltest
fi
