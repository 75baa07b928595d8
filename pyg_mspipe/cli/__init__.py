"""The command line."""

from pyg_mspipe._loading import loading

with loading():
    from pyg_mspipe.cli.app import app

__all__ = ["app"]
