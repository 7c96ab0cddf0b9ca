"""The settings of a study, told from its trials: which are taken, which are lost, and which trials are too many.

Settings are known by the number of the trial that had them first. Its folder has that name, and keeps it when the settings
are queued again. Every worker reads the same from the same trials, so none has to be told, and one that is killed between
two steps leaves nothing undone that another does not do.
"""

from collections import defaultdict
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

FOLDER = "folder"
DROPPED = "dropped"
"""An attribute of failed trials whose settings are not queued again."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
LIVE = (TrialState.WAITING, TrialState.RUNNING, *DONE)


def settings_number(trial: FrozenTrial) -> int:
    """The number of the trial that had these settings first."""
    return int(trial.user_attrs.get(FOLDER, trial.number))


def lost_trials(trials: Sequence[FrozenTrial], retries: int) -> list[FrozenTrial]:
    """The failed trials whose settings must be queued again: at most ``retries`` times, and not while others have them."""
    live = {settings_number(trial) for trial in trials if trial.state in LIVE}
    failed = defaultdict[int, list[FrozenTrial]](list)
    for trial in trials:
        if trial.state == TrialState.FAIL and FOLDER in trial.user_attrs and DROPPED not in trial.user_attrs:
            failed[settings_number(trial)].append(trial)
    return [ones[-1] for number, ones in failed.items() if number not in live and len(ones) <= retries]


def is_in_excess(trials: Sequence[FrozenTrial], number: int, wanted: int, retries: int) -> bool:
    """Whether a trial that was just started is too many, because workers did the same at once.

    Its settings were queued twice, or those of as many trials as are ``wanted`` were chosen before.
    """
    own = settings_number(trials[number])
    live = [trial for trial in trials if trial.state in LIVE]
    if any(settings_number(trial) == own for trial in live if trial.number < number):
        return True
    taken = {settings_number(trial) for trial in [*live, *lost_trials(trials, retries)]}
    return sum(one < own for one in taken) >= wanted
