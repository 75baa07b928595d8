"""The training loops that pyg_mspipe is measured against."""
