"""The count of inputs, told at the end."""

import itertools


def pytest_terminal_summary(terminalreporter):
    reports = itertools.chain(*terminalreporter.stats.values())
    counts = [dict(each.user_properties) for each in reports if getattr(each, "when", None) == "teardown"]
    count = sum(each.get("inputs", 0) for each in counts)
    if count:
        terminalreporter.write_line(f"{count:,} inputs")
