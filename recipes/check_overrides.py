"""Check overrides of `asr train` before any work is done for it.

python recipes/check_overrides.py experiment=timit trainer.epochs=30
"""

import sys

from asr.cli.compose import compose
from asr.errors import InputError

try:
    compose(["run_dir=unused", *sys.argv[1:]])
except InputError as error:
    print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    sys.exit(2)
