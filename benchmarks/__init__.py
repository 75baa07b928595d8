"""Measured claims. Each benchmark measures its own baseline in the same run."""
