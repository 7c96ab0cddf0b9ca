"""A search for settings with Optuna, by any number of workers on one study in a database.

In:  the settings of a search and the values to try; a function that trains with overrides.
Out: a study whose trials ended or were pruned, and a run folder for each.
Start with `worker.work_on_study`.

    settings  the schema of a search and of the values to try
    study     the study in its database: opening, counting, heartbeats, trials that were killed
    trials    which settings are taken, lost, wrong or queued twice
    worker    one worker: ask, train, report, prune, tell
"""

__all__ = ["settings", "worker"]
