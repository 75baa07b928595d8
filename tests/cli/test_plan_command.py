import re

import pytest

from pyg_mspipe.data import load_stream, split_stream
from pyg_mspipe.distributed import ParallelPlan, SweepSchedule, choose_plan
from pyg_mspipe.memory import RowState
from pyg_mspipe.memory.stream_memory import node_tables


def ran(mspipe, *arguments):
    result = mspipe("plan", *arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def rows(out, title):
    """The rows of numbers under a title line, in words."""
    lines = out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(title))
    found = []
    for line in lines[begin + 1 :]:
        if line[:1].isalpha() and found:
            break
        if line.strip() and line.split()[0].isdigit():
            found.append(line.split())
    return found


def cells(out):
    """The drawn schedule: for each rank its cells, by step."""
    lines = out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("the first sweep"))
    steps = [(int(match[0]), match.start()) for match in re.finditer(r"\d+", lines[begin + 1])]
    drawn = {}
    for line in lines[begin + 2 :]:
        if re.match(r" {0,3}\d+ ", line):
            width = steps[1][1] - steps[0][1]
            row = {}
            for match in re.finditer(r"(\d+)(RW|  )/(\d+)", line):
                step = next(step for step, at in steps if at - width < match.start() <= at)
                row[step] = (int(match[1]), match[2] == "RW", int(match[3]))
            drawn[int(line.split()[0])] = row
    return drawn


def test_a_plan_says_how_many_sweeps_of_how_many_epochs_it_takes(mspipe):
    out = ran(mspipe, "1x2x2", "--hosts", 1)
    assert out.startswith("plan 1x2x2: 4 trainers; 2 memory groups on 1 host; 10 epochs in 3 sweeps of 4 each\n")
    assert ran(mspipe, "1x1x1", "--epochs", 1).startswith(
        "plan 1x1x1: 1 trainer; 1 memory group on 1 host; 1 epoch in 1 sweep of 1 each\n"
    )


def test_every_rank_is_listed_with_its_host_group_slot_part_and_where_it_begins(mspipe):
    out = ran(mspipe, "2x2x2", "--hosts", 2, "--batches", 7)
    seats = [" ".join(row) for row in rows(out, "rank")]
    assert seats[:5] == [
        "0 0 0 0 0 batch 0, 0/2 of the stream",
        "1 0 0 0 1 batch 0, 0/2 of the stream",
        "2 0 0 1 0 batch 0, 0/2 of the stream",
        "3 0 0 1 1 batch 0, 0/2 of the stream",
        "4 1 1 0 0 batch 3, 1/2 of the stream",
    ]
    assert len(seats) == 8
    assert [row[1:3] for row in rows(ran(mspipe, "1x1x4", "--hosts", 2), "rank")] == [
        ["0", "0"],
        ["0", "1"],
        ["1", "2"],
        ["1", "3"],
    ]


@pytest.mark.parametrize(
    ("shape", "batches"), [("1x1x1", 5), ("1x2x2", 8), ("2x2x2", 3), ("1x3x1", 5), ("1x1x4", 11), ("1x2x2", 1500)]
)
def test_the_drawn_schedule_is_the_schedule(mspipe, shape, batches):
    out = ran(mspipe, shape, "--batches", batches)
    schedule = SweepSchedule(ParallelPlan.parse(shape), batches)
    drawn = cells(out)
    assert list(drawn) == list(range(schedule.plan.world))
    first = re.search(r"steps?, the first (\d+) of them$", out, re.MULTILINE)
    shown = int(first[1]) if first else schedule.num_steps
    assert shown >= min(schedule.num_steps, 6)
    for seat in schedule.plan.seats():
        assignments = {step: schedule.assignment(seat, step) for step in range(shown)}
        assert drawn[seat.rank] == {
            step: (assignment.batch, assignment.visit == 0, schedule.epoch(0, seat.group, assignment.visit))
            for step, assignment in assignments.items()
            if assignment is not None
        }


def test_a_plan_of_two_by_two_fits_a_terminal_whole(mspipe):
    out = ran(mspipe, "1x2x2")
    assert "the first sweep: 8 batches in 9 steps\n" in out
    assert max(map(len, out.splitlines())) <= 80 + len("3 sweeps of 4 each")


def test_a_plan_of_many_trainers_is_cut_off_and_has_enough_batches_to_begin_at(mspipe):
    out = ran(mspipe, "1x1x100")
    assert len(cells(out)) == 64
    assert out.count("and 36 more ranks") == 2
    assert "100 batches in 100 steps" in out


def test_a_world_shows_its_possible_plans_and_why_the_others_are_not(mspipe):
    out = ran(mspipe, "--world", 8, "--hosts", 2, "--epochs", 9)
    assert out.startswith("plans of 8 trainers on 2 hosts\n")
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert table == [
        ["1x1x8", "4", "8", "2"],
        ["1x2x4", "2", "8", "2"],
        ["1x4x2", "1", "8", "2"],
        ["2x1x4", "2", "4", "3"],
        ["2x2x2", "1", "4", "3"],
        ["4x1x2", "1", "2", "5"],
    ]
    assert "sweeps for 9" in out
    for shape in ("1x8x1", "2x4x1", "4x2x1", "8x1x1"):
        reason = f"memory group 0 of plan {shape} has ranks 0 to 7 on hosts 0 and 1; a group must fit in one host"
        assert f"\n- {reason}" in out


def test_on_one_host_every_plan_is_possible(mspipe):
    out = ran(mspipe, "--world", 4)
    assert "not possible" not in out
    assert out.count("x") >= 6


def test_a_plan_for_a_stream_is_the_planners_with_what_it_measured_and_why(mspipe, npz):
    name = npz()
    out = ran(mspipe, "--auto", name, "--world", 4, "--batch-size", 20, "--memory-dim", 8, "--host-memory", 0.5)
    data = load_stream(name)
    choice = choose_plan(
        data,
        split_stream(data).train,
        world=4,
        batch_size=20,
        group_bytes=RowState(node_tables(data.num_nodes, 8)).nbytes,
        host_memory=2**29,
        max_loss=0.2,
    )
    assert f"\nplan {choice.plan}, " in out
    for reason in choice.reasons:
        assert f"\n- {reason}\n" in out
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [row[0] for row in table] == ["20", "40", "50", "80", "100", "200"]
    for row, each in zip(table, choice.measured, strict=True):
        assert row[1:3] == [f"{each.missed:.1%}", f"{each.loss:.1%}"]
        assert ("i = " in row[3]) == (each.batch_size == 20 * choice.plan.minibatch)


def test_more_loss_allows_a_larger_i_and_less_memory_a_smaller_k(mspipe, npz):
    arguments = ("--auto", npz(), "--world", 4, "--batch-size", 5)
    assert "\nplan 4x1x1, " in ran(mspipe, *arguments, "--max-loss", 0.99)
    assert "\nplan 1x1x4, " in ran(mspipe, *arguments, "--max-loss", 0)
    assert "\nplan 1x4x1, " in ran(mspipe, *arguments, "--max-loss", 0, "--host-memory", 0.00002)


def test_the_streams_own_flags_are_heard(mspipe, npz, arrays):
    name = npz(src=None, user=arrays["src"])
    result = mspipe("plan", "--auto", name, "--world", 2)
    problem, mend = result.stderr.splitlines()
    assert problem.startswith("error: ")
    assert "has no column 'src'" in problem
    assert mend == f"to mend it: mspipe plan --auto {name} --world 2 --src user"
    chosen = ran(mspipe, "--auto", name, "--world", 2, "--src", "user")
    assert "because:" in chosen
    assert f"torchrun --nproc-per-node 2 -m pyg_mspipe train {name} --src user --parallel" in chosen


def refused(mspipe, *arguments, message):
    result = mspipe("plan", *arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1x2"], "plan '1x2' is not of the form i x j x k; give three whole numbers, as in 1x2x2"),
        (["0x2x2"], "i is 0 in a plan i x j x k"),
        (["1x4x1", "--hosts", 2], "memory group 0 of plan 1x4x1 has ranks 0 to 3 on hosts 0 and 1; a group must fit"),
        (["1x2x2", "--world", 8], "plan 1x2x2 has 4 trainers and 8 processes were started"),
        (["1x2x2", "--hosts", 3], "4 trainers on 3 hosts; give each host the same number of them, at least 1"),
        (["1x2x2", "--hosts", 0], "4 trainers on 0 hosts"),
        (["1x2x2", "--batches", 1], "1 batches cannot begin at 2 places"),
        (["1x2x2", "--epochs", 0], "--epochs is 0; give at least 1"),
        (["1x2x2", "--auto", "synthetic"], "plan 1x2x2 is given and --auto is to choose one; leave out either"),
        (["9999x9999x9999"], "999700029999 trainers; give 1 to 4096"),
        (["--world", 0], "0 trainers; give 1 to 4096"),
        (["--world", 6, "--hosts", 4], "6 trainers on 4 hosts"),
        (["--hosts", 2], "the number of trainers is missing; give --world, or a plan such as 1x2x2"),
        (["--auto", "synthetic"], "the number of trainers is missing; give --world"),
        (["--auto", "nowhere.csv", "--world", 2], "nowhere.csv does not exist"),
        (["--auto", "synthetic", "--world", 2, "--max-loss", 2], "the largest loss is 2.0; give a share from 0"),
        (["--auto", "synthetic", "--world", 2, "--batch-size", 0], "the batch size is 0"),
        (["--auto", "synthetic", "--world", 2, "--memory-dim", 0], "--memory-dim is 0; give at least 1"),
        (["--auto", "synthetic", "--world", 2, "--host-memory", 0], "--host-memory is 0.0; give GiB above 0"),
        (["--auto", "synthetic", "--world", 2, "--host-memory", "nan"], "--host-memory is nan; give GiB above 0"),
        (["--auto", "synthetic", "--world", 2, "--host-memory", 0.0001], "a memory group takes "),
    ],
)
def test_what_cannot_be_is_one_line(mspipe, files, arguments, message):
    refused(mspipe, *arguments, message=message)
    assert files() == []
