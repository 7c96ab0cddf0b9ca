#!/usr/bin/env bash
# Train one model on several machines. Run the same command on each of them:
#   recipes/cluster/torchrun.sh FIRST_HOST NODES PROCESSES OVERRIDE...
# FIRST_HOST is the machine where the others meet. NODES is their number, or 1:4 for one to four: training then goes on
# with those that are left if one is lost, and takes it back when the command runs there again. PROCESSES is the number on
# each machine, one for each GPU. All machines must see the corpus and the run folder at the same paths.
# PORT (29400) and RESTARTS (100) can be set. LOCAL_ADDR is this machine's address if its host name does not lead to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
if (($# < 4)) || ! [[ $2 =~ ^[0-9]+(:[0-9]+)?$ && $3 =~ ^[0-9]+$ ]]; then
  echo "$0: arguments are '$*', expected FIRST_HOST NODES PROCESSES OVERRIDE..." >&2
  exit 2
fi
# Otherwise a machine that comes back waits in vain for the address of the first process, which was sent only once (torch 2.11).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
first_host=$1 nodes=$2 processes=$3
shift 3
python recipes/check_overrides.py --corpus "$@" # torchrun would restart a training that cannot begin
# A machine that says nothing for 6 s (3 x 2) is lost. The others wait 15 s for more before they go on.
exec torchrun --nnodes "$nodes" --nproc-per-node "$processes" --max-restarts "${RESTARTS:-100}" \
  --rdzv-backend c10d --rdzv-id asr --rdzv-endpoint "$first_host:${PORT:-29400}" ${LOCAL_ADDR:+--local-addr "$LOCAL_ADDR"} \
  --rdzv-conf "last_call_timeout=15,keep_alive_interval=2,keep_alive_max_attempt=3" \
  -m asr train "$@" resume=true
