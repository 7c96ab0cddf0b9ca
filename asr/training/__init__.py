"""Training: manifests or shards and a configuration -> a model folder.

In:  a `TrainConfig`, manifests of utterances or shards of them.
Out: `run_dir/model`, checkpoints, a log, the history of epochs.
Start with `loop.train`, which shows a whole training on one page; `run.Run.state` is what a resumed run restores.

    loop                 epochs, updates, validation
    data                 both sets, the updates of a section, each process's share
    sections             the training set, opened section by section
    sources              manifests and shards, their weights, what each section has of them
    shard_reader         shards read ahead, kept in place, named if they are bad
    data_checks          utterances that cannot be trained on
    run                  model, optimizer, schedule and progress of a run
    run_folder           settings and log of a run; whether it can be resumed
    checkpoints          when checkpoints are written, what resume restores
    checkpoint_files     checkpoint files, written whole and verified
    objective, losses    the loss of a batch; flat start, consistency, distillation
    optimization         optimizers, schedules, weight averages, gradient norms
    pretrained           a run's pretrained encoder; the outputs of its frozen layers on disk
    adapt                a trained model learns from a few minutes of speech (behind `asr adapt`)
    distillation         posteriors of teachers
    distributed          processes that train one model
    numerical_checks     losses and weights that are not finite
    final_model          averaged weights, the model folder
    model_card           the model's README
    frame_classifier     training of the aligner
"""

__all__ = [
    "adapt",
    "checkpoint_files",
    "data",
    "distillation",
    "distributed",
    "frame_classifier",
    "loop",
    "losses",
    "numerical_checks",
    "optimization",
    "run",
    "run_folder",
    "sections",
]
