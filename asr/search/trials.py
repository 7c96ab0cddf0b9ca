"""The settings of a study, told from its trials: which are taken, lost or wrong, and which trials are too many.

Settings are known by the number of the trial that had them first. Their folder has that name, and keeps it when they are
queued again. A failed trial has one of three meanings:

    neither mark   its training was cut off: its settings are lost, and queued again ``retries`` times
    SUPERFLUOUS    another trial or process has its settings, or it was one too many: says nothing of its settings
    WRONG          no training can begin with its settings: no trial of theirs is queued again

Every worker reads the same from the same trials, so none has to be told, and one that is killed between two steps leaves
nothing undone that another does not do.
"""

from collections import defaultdict
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

FOLDER = "folder"
"""The attribute of a trial that names the folder of its settings."""

SUPERFLUOUS = "superfluous"
WRONG = "wrong"
"""The attribute that holds the error."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
LIVE = (TrialState.WAITING, TrialState.RUNNING, *DONE)


def settings_number(trial: FrozenTrial) -> int:
    """The number of the trial that had these settings first."""
    return int(trial.user_attrs.get(FOLDER, trial.number))


def wrong_settings(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the settings that no training can begin with."""
    return {settings_number(trial) for trial in trials if WRONG in trial.user_attrs}


def lost_trials(trials: Sequence[FrozenTrial], retries: int) -> list[FrozenTrial]:
    """The failed trials whose settings must be queued again: at most ``retries`` times, and not while others have them."""
    wrong = wrong_settings(trials)
    return [ones[-1] for number, ones in failures(trials).items() if number not in wrong and len(ones) <= retries]


def failures(trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """The trials that failed with the same settings, by the number of these; not if another trial has them."""
    taken = {settings_number(trial) for trial in trials if trial.state in LIVE}
    failed = defaultdict[int, list[FrozenTrial]](list)
    for trial in trials:
        marks = trial.user_attrs
        if trial.state == TrialState.FAIL and FOLDER in marks and SUPERFLUOUS not in marks:
            failed[settings_number(trial)].append(trial)
    return {number: ones for number, ones in failed.items() if number not in taken}


def is_in_excess(trials: Sequence[FrozenTrial], number: int, wanted: int, retries: int) -> bool:
    """Whether a trial that was just started is too many, because workers did the same at once.

    Its settings were queued twice, or are wrong, or those of as many trials as are ``wanted`` were chosen before.
    """
    own = settings_number(trials[number])
    live = [trial for trial in trials if trial.state in LIVE]
    if own in wrong_settings(trials) or any(settings_number(trial) == own for trial in live if trial.number < number):
        return True
    taken = {settings_number(trial) for trial in [*live, *lost_trials(trials, retries)]}
    return sum(one < own for one in taken) >= wanted
