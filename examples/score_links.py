"""A trained model put to use: which destinations are the likeliest next ones of a source, and vectors of all nodes.

    python examples/score_links.py [STREAM] [--epochs 3] [--source 0] [--vectors vectors.npy]

Of a run that `mspipe train` has made: `run = load_run("runs/mine")`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from pyg_mspipe import TrainConfig, Trainer, load_run, load_stream
from pyg_mspipe.training import load_checkpoint

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--source", type=int, default=0)
parser.add_argument("--vectors", type=Path, help="where to write the vectors of all nodes, as a numpy file")
args = parser.parse_args()

data = load_stream(args.stream)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(data, TrainConfig(epochs=args.epochs, eval_negatives=1), folder)
    trainer.fit()
    print(f"test AP {trainer.test(load_checkpoint(Path(folder) / 'best.pt'))['test'].ap:.4f}")
    run = load_run(folder, data=data)  # as of the last event

items = data.dst.unique()
scores = run.score(torch.tensor([args.source]), items)
# An order, no probabilities: the model has learned to tell a link from one at random.
for score, place in zip(*scores.topk(min(5, len(items))), strict=True):
    print(f"source {args.source} -> destination {int(items[place])}: {float(score):.3f}")

if args.vectors:
    np.save(args.vectors, run.embed(torch.arange(run.trainer.num_nodes)).cpu().numpy())
