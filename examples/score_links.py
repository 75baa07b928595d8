"""A trained model put to use: which destinations are the likeliest next ones of a source, and vectors of all nodes.

    python examples/score_links.py [STREAM] [--epochs 3] [--source 0] [--vectors vectors.npy]

Of a run that `mspipe train` has made: `folder = "runs/mine"`, and for one of several trainers
`checkpoint["config"]["parallel"] = "1x1x1"` before `Trainer.resume`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from pyg_mspipe import Batch, TrainConfig, Trainer, load_stream
from pyg_mspipe.training import load_checkpoint

parser = argparse.ArgumentParser()
parser.add_argument("stream", nargs="?", default="synthetic")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--source", type=int, default=0)
parser.add_argument("--vectors", type=Path, help="where to write the vectors of all nodes, as a numpy file")
args = parser.parse_args()

data = load_stream(args.stream)
with tempfile.TemporaryDirectory() as folder:
    Trainer(data, TrainConfig(epochs=args.epochs, eval_negatives=1), folder).fit()
    checkpoint = load_checkpoint(Path(folder) / "best.pt")
    trainer = Trainer.resume(data, checkpoint, folder)

# The memory of best.pt is that after the training events; validation and test bring it to the end of the stream.
print(f"test AP {trainer.test(checkpoint)['test'].ap:.4f}")
model, data, batches = trainer.model, trainer.data, trainer.batches("test")
none = data.src[:0]


def embed(nodes):
    """Vectors of nodes after the last event: [len(nodes), embedding_dim]."""
    parts = []
    for part in nodes.split(10_000):
        sample = batches.sampler.sample(part, data.num_events)  # sees all events
        batch = Batch(range(0), none, none, none, data.msg[:0], none.view(0, 0), sample, (), ())
        parts.append(model(batches.gather(batch)))
    return torch.cat(parts)


items = data.dst.unique()
with torch.no_grad():
    logits = trainer.task.score_pairs(embed(items.new_tensor([args.source])), embed(items))
# An order, no probabilities: the model has learned to tell a link from one at random.
for logit, place in zip(*logits.topk(min(5, len(items))), strict=True):
    print(f"source {args.source} -> destination {int(items[place])}: {float(logit):.3f}")

if args.vectors:
    with torch.no_grad():
        np.save(args.vectors, embed(torch.arange(model.memory.num_nodes, device=items.device)).cpu().numpy())
