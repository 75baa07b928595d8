"""Random plans and their schedules."""

from hypothesis import strategies as st

from pyg_mspipe.distributed import ParallelPlan, SweepSchedule

plans = st.builds(ParallelPlan, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@st.composite
def schedules(draw):
    """A schedule of at least one batch for each memory group, often of fewer than there are slots."""
    plan = draw(plans)
    return SweepSchedule(plan, draw(st.integers(plan.memory, plan.memory + 12)))


def assignments(schedule, seat):
    """What a trainer does in the steps of a sweep in which it has something to do, by step."""
    found = {step: schedule.assignment(seat, step) for step in range(schedule.num_steps)}
    return {step: assignment for step, assignment in found.items() if assignment is not None}
