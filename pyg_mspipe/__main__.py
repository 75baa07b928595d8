"""``python -m pyg_mspipe`` is ``mspipe``."""

from pyg_mspipe.cli import app

if __name__ == "__main__":
    app(prog_name="mspipe")
