#!/usr/bin/env bash
# Sourced by every recipe: reads --stage N and --stop-stage N, and defines `at N "what"`, which is true if stage N is to run.
# The other arguments go to the array `rest`.
invoked_from="$PWD" # arguments and folders in the environment are relative to it
stage=0
stop_stage=99
rest=()
while (($# > 0)); do
  case "$1" in
    --stage | --stop-stage)
      [[ ${2:-} =~ ^[0-9]+$ ]] || { echo "$0: $1 is '${2:-}', expected a number" >&2; exit 2; }
      if [[ $1 == --stage ]]; then stage=$2; else stop_stage=$2; fi
      shift 2
      ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    -*) echo "$0: unknown option $1, expected --stage N or --stop-stage N" >&2; exit 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done
for variable in DATA RUN TEXTS TIERS KOKORO_VOICES; do
  [[ ${!variable:-/} == /* ]] || printf -v "$variable" %s "$invoked_from/${!variable}"
done

at() {
  if (($1 < stage || $1 > stop_stage)); then return 1; fi
  echo "== stage $1: $2"
}

# Take the first argument, the folder of a corpus, as `corpus`, the others as `overrides`.   corpus_argument NAME
corpus_argument() {
  corpus="${rest[0]:-}"
  # shellcheck disable=SC2034 # recipes read it
  overrides=(${rest[@]+"${rest[@]:1}"})
  if [[ -z $corpus ]]; then
    echo "$0: no $1, expected the folder of the corpus" >&2
    exit 2
  fi
  [[ $corpus == /* ]] || corpus="$invoked_from/$corpus"
  if ! [[ -d $corpus ]]; then
    echo "$0: $1 is $corpus, no such folder, expected that of the corpus" >&2
    exit 2
  fi
}

# Check overrides before any stage takes its time; stage N is the last that takes them.   check_overrides N OVERRIDE...
check_overrides() {
  (($1 < stage)) || python recipes/check_overrides.py "${@:2}"
}

# Make a corpus unless its folder is complete.   make_corpus FOLDER COMMAND...
make_corpus() {
  local folder=$1
  shift
  if [[ -f $folder/stats.json ]]; then
    echo "$folder already exists; remove it to make it again"
  else
    "$@"
  fi
}

# Set up .venv with what the recipes of English need, and install the synthesizers; Kokoro's voices are in the folder that
# KOKORO_VOICES names, or else in DATA/kokoro.   set_up_english DATA
set_up_english() {
  bash recipes/setup.sh english voices kokoro synth
  bash recipes/english/synthesizers.sh "$1/kokoro"
}

# Synthesize NEURAL_HOURS of speech of Kokoro's voices in DATA/neural.   make_neural_speech DATA
make_neural_speech() {
  KOKORO_VOICES="${KOKORO_VOICES:-$1/kokoro/package/voices}" make_corpus "$1/neural" \
    asr prepare voices "$1/neural" --hours "${NEURAL_HOURS:-3}" --seed 5 --engines kokoro --held-out am_michael
}

# Train unless the run is complete; resume it if it was interrupted.   train_run RUN_DIR OVERRIDE...
train_run() {
  local run_dir=$1
  shift
  if [[ -d $run_dir/model ]]; then
    echo "$run_dir/model already exists; remove $run_dir to train again"
  else
    asr train "$@" run_dir="$run_dir" resume=true
  fi
}

# Put the overrides of the seed and the model, which pretraining shares with training, into the array `shared`.
shared_overrides() {
  shared=()
  local override
  for override in "$@"; do
    case "$override" in seed=* | model=* | model.*) shared+=("$override") ;; esac
  done
}

# Estimate a phone 5-gram of WordNet's sentences and of manifests in RUN/open.arpa, for `asr lm --mix`.   make_open_ngram RUN MANIFEST...
make_open_ngram() {
  local run_dir=$1
  shift
  asr prepare texts "$run_dir/sentences.txt"
  asr lm "$run_dir/sentences.txt" "$@" "$run_dir/open.arpa" --order 5
}

# Tune the beam search of RUN/model on the dev set, with a phone 5-gram of the train part.   tune_decoder RUN DATA [LM_OPTION...]
tune_decoder() {
  local run_dir=$1 data_dir=$2
  shift 2
  asr lm "$data_dir/cuts_train.jsonl.gz" "$run_dir/phones.arpa" --order 5 --test "$data_dir/cuts_dev.jsonl.gz" "$@"
  asr tune-decoder "$run_dir/model" "$data_dir/cuts_dev.jsonl.gz" --lm "$run_dir/phones.arpa"
}

# Evaluate RUN/model on these sets by both decoders, to RUN/SET_DECODER.json.   evaluate_sets RUN DATA SET...
evaluate_sets() {
  local run_dir=$1 data_dir=$2 set decoder
  shift 2
  for set in "$@"; do
    for decoder in best_path beam; do
      echo "-- $set, $decoder"
      asr evaluate "$run_dir/model" "$data_dir/cuts_$set.jsonl.gz" --decoder "$decoder" --json "$run_dir/${set}_$decoder.json"
    done
  done
}

# Evaluate RUN/model on these manifests, and on those that OUT_OF_DOMAIN names, by both decoders, to
# RUN/FOLDER-SET_DECODER.json.   evaluate_manifests RUN MANIFEST...
evaluate_manifests() {
  local run_dir=$1 manifest name decoder
  shift
  for manifest in ${OUT_OF_DOMAIN:-}; do
    [[ $manifest == /* ]] || manifest="$invoked_from/$manifest"
    set -- "$@" "$manifest"
  done
  for manifest in "$@"; do
    name="$(basename "$(dirname "$manifest")")-$(basename "$manifest" .jsonl.gz)"
    for decoder in best_path beam; do
      echo "-- $manifest, $decoder"
      asr evaluate "$run_dir/model" "$manifest" --decoder "$decoder" --json "$run_dir/${name/cuts_/}_$decoder.json"
    done
  done
}
