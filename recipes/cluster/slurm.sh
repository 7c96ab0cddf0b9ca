#!/usr/bin/env bash
# Train on Slurm, through submitit (extra `slurm`). Run it where `sbatch` works, in a terminal that stays open or with nohup.
#   recipes/cluster/slurm.sh NODES TASKS OVERRIDE...
# One job for each combination of overrides: seed=1,2,3 are three trainings, search.worker=1,2,3 three workers of a search.
# TASKS is the number of processes of a training on each node: one for each GPU, or 1 on CPUs and for a search.
# GPUS and CPUS of a task (0 and 4), MINUTES of a job (600) and PARTITION can be set. A job that reaches its time limit, or
# whose node is lost, is queued again and continues from its last checkpoint, up to REQUEUES (20) times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
if (($# < 3)) || ! [[ $1 =~ ^[0-9]+$ && $2 =~ ^[0-9]+$ ]]; then
  echo "$0: arguments are '$*', expected NODES TASKS OVERRIDE..." >&2
  exit 2
fi
nodes=$1 tasks=$2
shift 2
gpus=$((${GPUS:-0} * tasks))
((gpus)) || gpus=
exec asr train -m hydra/launcher=submitit_slurm hydra.launcher.nodes="$nodes" hydra.launcher.tasks_per_node="$tasks" \
  hydra.launcher.cpus_per_task="${CPUS:-4}" hydra.launcher.timeout_min="${MINUTES:-600}" \
  hydra.launcher.max_num_timeout="${REQUEUES:-20}" hydra.launcher.signal_delay_s="${SIGNAL_S:-120}" \
  ${PARTITION:+"hydra.launcher.partition=$PARTITION"} ${gpus:+"hydra.launcher.gpus_per_node=$gpus"} "$@" resume=true
