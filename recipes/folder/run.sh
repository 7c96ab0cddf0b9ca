#!/usr/bin/env bash
# From a folder of recordings in any layout of `asr prepare` to a model, its evaluation, transcripts and aligned tiers.
#   recipes/folder/run.sh DIR [LEXICON] [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare, 2 train, 3 evaluate, 4 transcribe the test recordings, 5 align the whole folder.
# LEXICON has a word and its phones on each line. With ESPEAK_LANGUAGE=de, espeak-ng pronounces the words that it lacks, or all
# words without a LEXICON. A folder with phones, such as TextGrids, needs neither. OOV=drop leaves out utterances with words that
# nothing pronounces. SPLIT is as `asr prepare auto --split`. DATA, RUN and TIERS change the output folders.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"

folder="" lexicon="" overrides=()
for argument in ${rest[@]+"${rest[@]}"}; do
  if [[ $argument == *=* ]]; then
    overrides+=("$argument")
  elif [[ -z $folder ]]; then
    folder="$argument"
  elif [[ -z $lexicon ]]; then
    lexicon="$argument"
  else
    echo "$0: a third file $argument, expected DIR, LEXICON and overrides such as trainer.epochs=30" >&2
    exit 2
  fi
done
if [[ -z $folder ]]; then
  echo "$0: no DIR, expected a folder of recordings" >&2
  exit 2
fi
[[ $folder == /* ]] || folder="$invoked_from/$folder"
[[ -z $lexicon || $lexicon == /* ]] || lexicon="$invoked_from/$lexicon"
for argument in "$folder" ${lexicon:+"$lexicon"}; do
  [[ -e $argument ]] || { echo "$0: $argument: no such file or folder" >&2; exit 2; }
done
# Stage 2 trains with a dev set, stage 3 evaluates on a test set; the corpus's own splits may have them.
for needed in 2=dev 3=test; do
  first="${needed%=*}" name="${needed#*=}"
  if ((stage <= 1 && stop_stage >= first)) && [[ -n ${SPLIT:-} && ! ,${SPLIT// /} =~ ,(own(,|$)|$name=) ]]; then
    echo "$0: SPLIT is $SPLIT, without a $name set, expected one for stage $first, or --stop-stage $((first - 1))" >&2
    exit 2
  fi
done
data="${DATA:-data/folder}"
run="${RUN:-runs/folder}"
tiers="${TIERS:-$run/tiers}"
pronouncing=(${lexicon:+--lexicon "$lexicon"} ${ESPEAK_LANGUAGE:+--g2p espeak --language "$ESPEAK_LANGUAGE"})

if at 0 "set up .venv"; then
  bash recipes/setup.sh synth ipa
fi
check_overrides 2 corpus=folder ${overrides[@]+"${overrides[@]}"}
if at 1 "prepare $folder in $data"; then
  asr prepare auto "$folder" "$data" ${pronouncing[@]+"${pronouncing[@]}"} ${OOV:+--oov "$OOV"} ${SPLIT:+--split "$SPLIT"}
fi
if at 2 "train in $run"; then
  train_run "$run" corpus=folder corpus.dir="$data" ${overrides[@]+"${overrides[@]}"}
fi
if at 3 "evaluate on held-out speakers"; then
  asr evaluate "$run/model" "$data/cuts_test.jsonl.gz" --json "$run/test.json"
fi
if at 4 "transcribe the test recordings to $run/transcripts"; then
  mapfile -d '' recordings < <(python recipes/folder/recordings.py "$data/cuts_test.jsonl.gz")
  asr transcribe "${recordings[@]}" --model "$run/model" --format textgrid --format ctm --out "$run/transcripts" --force
fi
if at 5 "align $folder to $tiers"; then
  # status 1: some recordings are left out, and errors.tsv names them
  asr align "$run/model" "$folder" ${pronouncing[@]+"${pronouncing[@]}"} --out "$tiers" || (($? == 1))
fi
cat << END
corpus       $data (statistics: $data/stats.json; left out: $data/left_out.tsv if there is one)
model        $run/model (card: $run/model/README.md)
figures      $run/test.json
transcripts  $run/transcripts
tiers        $tiers
next         correct tiers in Praat, then: .venv/bin/asr prepare folder $folder data/corrected --tiers $tiers --split train
             .venv/bin/asr adapt $run/model data/corrected/cuts_train.jsonl.gz --out $run/adapted
END
