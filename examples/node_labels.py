"""Labels of nodes: which card is in the wrong hands, told before its next payment.

Cards pay at the shops of their town. After a theft a card pays elsewhere a few times, until it is blocked; each of
these payments has the label 1, and they are few. So a model learns links first, and then its embedding stays and a
small head learns the labels. The other way is to train both together.

    python examples/node_labels.py [--epochs 5]
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch_geometric.data import TemporalData

from pyg_mspipe import TrainConfig, Trainer
from pyg_mspipe.training import load_checkpoint

CARDS, TOWNS, SHOPS = 400, 20, 15
BATCH = 50  # a label sees nothing of its own batch, and a theft is over after six payments


def payments(num_events=20_000):
    """Returns payments, with `y: Int64[E]`, 1 where the card is stolen."""
    generator = torch.Generator().manual_seed(0)
    card = torch.randint(CARDS, (num_events,), generator=generator)
    home, away = (torch.randint(TOWNS, (size,), generator=generator) for size in (CARDS, num_events))
    theft = torch.rand(num_events, generator=generator) < 0.01
    stolen, left = torch.zeros(num_events, dtype=torch.bool), [0] * CARDS
    for event, (which, begins) in enumerate(zip(card.tolist(), theft.tolist(), strict=True)):
        if begins:
            left[which] = 6
        stolen[event] = left[which] > 0
        left[which] -= left[which] > 0
    town = torch.where(stolen, away, home[card])
    shop = CARDS + SHOPS * town + torch.randint(SHOPS, (num_events,), generator=generator)
    t = torch.randint(1, 60, (num_events,), generator=generator).cumsum(0)
    msg = torch.nn.functional.one_hot(town, TOWNS).float()
    return TemporalData(src=card, dst=shop, t=t, msg=msg, y=stolen.long())


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()

data = payments()
print(f"{data.num_events:,} payments, {int(data.y.sum()):,} with stolen cards")
with tempfile.TemporaryDirectory() as folder:
    links = Path(folder, "links")
    Trainer(data, TrainConfig(epochs=args.epochs, batch_size=BATCH), links).fit()
    for name, embeddings in (("frozen", str(links)), ("together", "")):
        config = TrainConfig(
            task="node", embeddings=embeddings, class_weights="balanced", epochs=args.epochs, batch_size=BATCH
        )
        trainer = Trainer(data, config, Path(folder, name))
        trainer.fit()
        test = trainer.test(load_checkpoint(Path(folder, name, "best.pt")))["test"]
        print(f"{name:<8}  test AUC {test.auc:.4f}  AP {test.ap:.4f}  {test.num_labels:,} labels")
