"""Training with many processes: plans, their schedules, and memory that the processes of a host share."""

from pyg_mspipe.distributed.emulated_executor import EmulatedExecutor
from pyg_mspipe.distributed.executor import Executor
from pyg_mspipe.distributed.plan import ParallelPlan, PlanError, Seat
from pyg_mspipe.distributed.planner import BatchLoss, PlanChoice, choose_plan
from pyg_mspipe.distributed.process_executor import ProcessExecutor
from pyg_mspipe.distributed.schedule import Assignment, SweepSchedule
from pyg_mspipe.distributed.shared_memory import SharedMemoryError
from pyg_mspipe.distributed.world import DisagreementError, TrainerLostError, World

__all__ = [
    "Assignment",
    "BatchLoss",
    "DisagreementError",
    "EmulatedExecutor",
    "Executor",
    "ParallelPlan",
    "PlanChoice",
    "PlanError",
    "ProcessExecutor",
    "Seat",
    "SharedMemoryError",
    "SweepSchedule",
    "TrainerLostError",
    "World",
    "choose_plan",
]
