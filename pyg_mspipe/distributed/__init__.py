"""Training with many processes: plans, their schedules, and memory that the processes of a host share."""

from typing import TYPE_CHECKING

from pyg_mspipe._lazy import lazy

if TYPE_CHECKING:
    from pyg_mspipe.distributed.emulated_executor import EmulatedExecutor
    from pyg_mspipe.distributed.executor import Executor
    from pyg_mspipe.distributed.plan import ParallelPlan, PlanError, Seat
    from pyg_mspipe.distributed.planner import BatchLoss, PlanChoice, choose_plan
    from pyg_mspipe.distributed.process_executor import ProcessExecutor
    from pyg_mspipe.distributed.schedule import Assignment, SweepSchedule
    from pyg_mspipe.distributed.shared_memory import SharedMemoryError
    from pyg_mspipe.distributed.torchrun import torchrun_started
    from pyg_mspipe.distributed.world import DisagreementError, TrainerLostError, World
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "emulated_executor": ["EmulatedExecutor"],
            "executor": ["Executor"],
            "plan": ["ParallelPlan", "PlanError", "Seat"],
            "planner": ["BatchLoss", "PlanChoice", "choose_plan"],
            "process_executor": ["ProcessExecutor"],
            "schedule": ["Assignment", "SweepSchedule"],
            "shared_memory": ["SharedMemoryError"],
            "torchrun": ["torchrun_started"],
            "world": ["DisagreementError", "TrainerLostError", "World"],
        },
    )

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
    "torchrun_started",
]
