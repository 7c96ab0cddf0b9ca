#!/usr/bin/env bash
# Train and test on speechocean762 (OpenSLR 101), a free corpus of real English speech.
#   recipes/speechocean762/run.sh CORPUS_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare, 2 synthesize speech, 3 pretrain on it, 4 train, 5 tune the decoder, 6 evaluate on dev and on
# the official test part. Overrides go to stage 4; those of the seed and the model also go to stage 3.
# EXPERIMENT, DATA and RUN change the experiment and the folders.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
experiment="${EXPERIMENT:-speechocean762}"
data="${DATA:-data/speechocean762}"
run="${RUN:-runs/$experiment}"
dev="$data/cuts_dev.jsonl.gz"
[[ $dev == /* ]] || dev="$PWD/$dev"
corpus_argument CORPUS_DIR
shared_overrides ${overrides[@]+"${overrides[@]}"}

if at 0 "set up .venv"; then
  bash recipes/setup.sh synth
fi
check_overrides 4 experiment="$experiment" ${overrides[@]+"${overrides[@]}"}
if at 1 "prepare speechocean762 in $data"; then
  asr prepare speechocean762 "$corpus" "$data"
fi
if at 2 "synthesize speech in $data-made"; then
  lexicon="$corpus/resource/lexicon.txt"
  [[ -f $lexicon ]] || lexicon="$corpus/speechocean762/resource/lexicon.txt"
  make_corpus "$data-made" asr prepare made "$data/cuts_train.jsonl.gz" "$lexicon" "$data-made"
fi
if at 3 "pretrain in $run-made"; then
  train_run "$run-made" experiment="$experiment" pretraining=made corpus.dir="$data-made" \
    corpus.dev="$dev" ${shared[@]+"${shared[@]}"}
fi
if at 4 "train in $run"; then
  train_run "$run" experiment="$experiment" corpus.dir="$data" init_from="$run-made/model" trainer.flat_start_epochs=0 \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 5 "tune the decoder"; then
  tune_decoder "$run" "$data"
fi
if at 6 "evaluate"; then
  evaluate_sets "$run" "$data" dev test
fi
