"""Flags of a run that takes a moment."""

SMALL = [
    "--epochs=1",
    "--batch-size=100",
    "--memory-dim=4",
    "--time-dim=4",
    "--embedding-dim=4",
    "--eval-negatives=2",
    "--no-tensorboard",
]
