"""Counts of inputs, told at the end."""


def pytest_terminal_summary(terminalreporter):
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, [])]
    counts = [dict(each.user_properties).get("inputs", 0) for each in reports if each.when == "teardown"]
    counts = counts or [dict(each.user_properties).get("inputs", 0) for each in reports if each.when == "call"]
    if any(counts):
        terminalreporter.write_line(f"{sum(counts):,} inputs")
