"""What the results say, as tables and figures for README and docs."""
