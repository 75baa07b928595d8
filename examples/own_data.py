"""TGN on a CSV file of your own: who met what, when, and one number about it.

Ids may be strings, times dates, rows in any order. Give a file with these columns, or let the program write one:

    user,item,time,amount
    u552,i1730,2024-01-01 03:05:57,0.41

    python examples/own_data.py [CSV] [--epochs 3]
"""

import argparse
import csv
import random
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from pyg_mspipe import TrainConfig, Trainer, load_stream, synthetic
from pyg_mspipe.training import load_checkpoint


def write_csv(path):
    """Writes generated clicks as a shop might export them."""
    data = synthetic(msg_dim=1)
    events = zip(data.src.tolist(), data.dst.tolist(), data.t.tolist(), data.msg[:, 0].tolist(), strict=True)
    rows = [(f"u{u}", f"i{i}", datetime(2024, 1, 1) + timedelta(seconds=t), round(x, 2)) for u, i, t, x in events]
    random.Random(0).shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "item", "time", "amount"), *rows])
    return path


parser = argparse.ArgumentParser()
parser.add_argument("csv", nargs="?", type=Path)
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    data = load_stream(
        args.csv or write_csv(Path(folder) / "clicks.csv"),
        columns={"src": "user", "dst": "item", "t": "time", "msg": ["amount"]},
        relabel=True,  # ids become 0, 1, 2 ... in the order of their appearance
        bipartite=True,  # users and items are different nodes, whatever their ids
        sort=True,
    )
    # The first 70 % of the events train, the next 15 % choose the best epoch, the last 15 % are the test.
    config = TrainConfig(epochs=args.epochs, val_ratio=0.15, test_ratio=0.15)
    trainer = Trainer(data, config, Path(folder) / "run")
    trainer.fit()
    metrics = trainer.test(load_checkpoint(Path(folder) / "run" / "best.pt"))

for part, each in metrics.items():
    unseen = "none" if each.ap_unseen is None else f"{each.ap_unseen:.4f}"
    print(f"{part:<4}  AP {each.ap:.4f}  MRR@{each.num_negatives} {each.mrr:.4f}  AP of unseen nodes {unseen}")
