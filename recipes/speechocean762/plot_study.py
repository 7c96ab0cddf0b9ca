"""Plot an Optuna study: the best PER against trials, and the PER against each setting; print which settings matter.

    python recipes/speechocean762/plot_study.py runs/sweep/study.db study.svg
    python recipes/speechocean762/plot_study.py postgresql://USER@HOST/DATABASE study.svg --study NAME

Writes the trials to a CSV file beside the picture. Pruned trials are drawn at their last PER. The importance of settings is
Optuna's fANOVA (Hutter et al., 2014): of the PER after the first epoch, which all trials have, and of that of trials that
ended.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial


def importance(trials: Sequence[FrozenTrial], pers: Sequence[float]) -> dict[str, float]:
    """The share of each setting in the variance of the PER, the largest first; sums to 1."""
    study = optuna.create_study()
    for trial, per in zip(trials, pers, strict=True):
        study.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=per))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw(trials: Sequence[FrozenTrial], picture: Path) -> None:
    """Draw the progress of the study above one panel per setting."""
    names = sorted({name for trial in trials for name in trial.params})
    figure, axes = plt.subplots(len(names) + 1, figsize=(7, 2.2 * (len(names) + 1)), layout="constrained")
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    groups = {"pruned": ("x", [t for t in trials if t not in ended]), "ended": ("o", ended)}
    for label, (marker, some) in groups.items():
        for name, panel in zip(["", *names], axes, strict=True):
            places = [trials.index(trial) if not name else trial.params[name] for trial in some]
            pers = [100 * float(trial.value or 0) for trial in some]
            panel.plot(places, pers, marker, color="tab:gray", label=label, fillstyle="none")
    best = [
        min([100 * float(t.value or 0) for t in trials[: i + 1] if t in ended], default=None)
        for i in range(len(trials))
    ]
    axes[0].plot(best, drawstyle="steps-post", label="best so far")
    axes[0].set(xlabel="trial", ylabel="PER on dev, %")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False)
    for name, panel in zip(names, axes[1:], strict=True):
        panel.set(xlabel=name, ylabel="PER, %", xscale="log" if "rate" in name or "decay" in name else "linear")
    figure.savefig(picture)


def main() -> None:
    """Draw the study, write its trials, and print the importance of the settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", help="SQLite file, or URL of a database")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--study", help="its name, if the database has several")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = args.database if "://" in args.database else f"sqlite:///{args.database}"
    study = optuna.load_study(study_name=args.study, storage=url)
    trials = [trial for trial in study.trials if trial.state.is_finished() and trial.value is not None]
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not ended:
        raise SystemExit(f"{args.database}: 0 finished trials, expected at least 1")
    draw(trials, args.picture)
    study.trials_dataframe(("number", "state", "value", "params")).to_csv(args.picture.with_suffix(".csv"), index=False)
    print(f"{len(ended)} trials ended, {len(trials) - len(ended)} pruned")
    print(f"best {100 * study.best_value:.2f} %: {study.best_params}")
    first = [trial for trial in trials if 1 in trial.intermediate_values]
    measured = {
        f"after one epoch, {len(first)} trials": (first, [trial.intermediate_values[1] for trial in first]),
        f"at the end, {len(ended)} trials": (ended, [float(trial.value or 0) for trial in ended]),
    }
    for title, (some, pers) in measured.items():
        if len(some) > 1:
            shares = ", ".join(f"{name} {share:.2f}" for name, share in importance(some, pers).items())
            print(f"importance for the PER {title}: {shares}")


if __name__ == "__main__":
    main()
