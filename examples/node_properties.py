"""Properties of nodes, as in TGB's `tgbn-*`: how a visitor's next days are shared out among kinds of destinations.

Every day each visitor gets a label: a number for each kind. All visits before the day are known when it is asked for.

    python examples/node_properties.py [--epochs 5]
"""

import argparse
import tempfile
from pathlib import Path

import torch
from sklearn.metrics import ndcg_score

from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.data import Labels
from pyg_mspipe.training import load_checkpoint

DAY, AHEAD, KINDS, VISITORS = 86_400, 3, 25, 300


def shares(data):
    """Returns a label for each day and each visitor with visits in the three days from there on: their shares."""
    kind = (data.dst - VISITORS) % KINDS
    node, t, y = [], [], []
    for day in range(1, int(data.t[-1]) // DAY - AHEAD + 1):
        coming = (data.t >= day * DAY) & (data.t < (day + AHEAD) * DAY)
        count = torch.zeros(VISITORS, KINDS).index_put_(
            (data.src[coming], kind[coming]), torch.ones(()), accumulate=True
        )
        active = count.sum(1).nonzero().view(-1)
        node.append(active)
        t.append(torch.full_like(active, day * DAY))
        y.append(count[active] / count[active].sum(1, keepdim=True))
    return Labels.at(data, torch.cat(node), torch.cat(t), torch.cat(y))


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()

data = synthetic(20_000, num_src=VISITORS, num_dst=200)
labels = shares(data)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(data, TrainConfig(task="property", epochs=args.epochs, lr=1e-3), folder, labels=labels)
    trainer.fit()
    test = trainer.test(load_checkpoint(Path(folder, "best.pt")))["test"]
    of_test = labels.rows(trainer.split.test)
everybody = labels.y[labels.rows(trainer.split.train)].mean(0).expand(test.num_labels, -1)
print(f"test NDCG@10 {test.ndcg:.4f}, of the mean of all labels {ndcg_score(labels.y[of_test], everybody, k=10):.4f}")
