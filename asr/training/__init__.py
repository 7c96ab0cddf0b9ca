"""The parts of a training run: its state, its checkpoints, optimizers, schedules and averages."""
