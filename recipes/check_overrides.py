"""Check overrides of `asr train` before any work is done for it; with --corpus, check also that the corpus is there.

python recipes/check_overrides.py [--corpus] experiment=timit trainer.epochs=30
"""

import sys

from asr.cli.compose import compose
from asr.errors import InputError
from asr.training.sources import locate, open_source, open_sources

try:
    config = compose(["run_dir=unused", *(one for one in sys.argv[1:] if one != "--corpus")])
    if "--corpus" in sys.argv:
        open_sources(config.corpus, config.sources)
        open_source(locate(config.corpus.dir, config.corpus.dev))
except InputError as error:
    print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    sys.exit(2)
