"""Labels of events: does a visit turn to something new, told from visitor and destination before the visit.

The generated stream carries such labels: 1 where a source leaves what it was interested in.

    python examples/edge_labels.py [--epochs 5]
"""

import argparse
import tempfile
from pathlib import Path

from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.training import load_checkpoint

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()

data = synthetic(labels=True)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(data, TrainConfig(task="edge", class_weights="balanced", epochs=args.epochs), folder)
    trainer.fit()
    test = trainer.test(load_checkpoint(Path(folder, "best.pt")))["test"]
print(f"test AUC {test.auc:.4f}  AP {test.ap:.4f}, of labels drawn at random {float(data.y.float().mean()):.4f}")
