"""A trained model put to use: which destinations are the likeliest next ones of a source, and vectors of all nodes.

    python examples/score_links.py [STREAM] [--epochs 3] [--source 0] [--vectors vectors.npy]

Of a run that `mspipe train` has made, take its folder: `load_checkpoint("runs/mine/best.pt")`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from pyg_mspipe import NeighborSampler, TemporalCSR, TrainConfig, Trainer, load_stream
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

# The memory of best.pt is that after the training events; validation and test bring it to the end of the stream.
trainer = Trainer.resume(data, checkpoint, None)
metrics = trainer.test(checkpoint)
print(f"test AP {metrics['test'].ap:.4f}")

model, data, config = trainer.model, trainer.data, trainer.config
history = TemporalCSR.from_stream(data, model.memory.num_nodes)
sampler = NeighborSampler(history, [config.num_neighbors] * config.layers, config.strategy)


@torch.no_grad()
def embed(nodes):
    """Vectors of nodes after the last event: [len(nodes), embedding_dim]."""
    sample = sampler.sample(nodes, data.num_events)  # sees all events
    return model(sample, [data.t[hop.e_id] for hop in sample.hops], [data.msg[hop.e_id] for hop in sample.hops])


items = data.dst.unique()
score = model.link_pred(embed(torch.tensor([args.source], device=items.device)), embed(items)).view(-1).detach().sigmoid()
for place in score.argsort(descending=True)[:5].tolist():
    print(f"source {args.source} -> destination {int(items[place])}: {float(score[place]):.3f}")

if args.vectors:
    every = torch.arange(model.memory.num_nodes, device=items.device)
    np.save(args.vectors, torch.cat([embed(part) for part in every.split(10_000)]).cpu().numpy())
