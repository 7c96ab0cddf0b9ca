"""Plot an Optuna study: the best PER against trials, and the PER against each setting.

    python recipes/speechocean762/plot_study.py runs/sweep/study.db study.svg

Writes the trials to a CSV file beside the picture.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import optuna


def main(database: Path, picture: Path) -> None:
    """Plot the progress of the study above one panel per setting, and write the trials."""
    (summary,) = optuna.get_all_study_summaries(f"sqlite:///{database}")
    study = optuna.load_study(summary.study_name, f"sqlite:///{database}")
    trials = [trial for trial in study.trials if trial.value is not None]
    if not trials:
        raise SystemExit(f"{database}: 0 finished trials, expected at least 1")
    names = sorted({name for trial in trials for name in trial.params})
    figure, axes = plt.subplots(len(names) + 1, figsize=(7, 2.2 * (len(names) + 1)), layout="constrained")
    values = [100 * trial.value for trial in trials]
    axes[0].plot(values, "o", color="tab:gray", label="trial")
    axes[0].plot([min(values[: i + 1]) for i in range(len(values))], drawstyle="steps-post", label="best so far")
    axes[0].set(xlabel="trial", ylabel="PER on dev, %")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False)
    for name, panel in zip(names, axes[1:], strict=True):
        used = [trial for trial in trials if name in trial.params]
        panel.plot([trial.params[name] for trial in used], [100 * trial.value for trial in used], "o", color="tab:gray")
        panel.set(xlabel=name, ylabel="PER, %", xscale="log" if "rate" in name or "decay" in name else "linear")
    figure.savefig(picture)
    study.trials_dataframe(("number", "state", "value", "params")).to_csv(picture.with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
