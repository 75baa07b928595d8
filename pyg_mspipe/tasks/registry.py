"""Tasks by name, and from files of the user's own."""

from __future__ import annotations

from pyg_mspipe.models.registry import find_class
from pyg_mspipe.tasks.classification import EdgeClassification, NodeClassification
from pyg_mspipe.tasks.link import LinkPrediction
from pyg_mspipe.tasks.node_property import NodeProperty
from pyg_mspipe.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "link": LinkPrediction,
    "node": NodeClassification,
    "edge": EdgeClassification,
    "property": NodeProperty,
}
"""The built-in tasks, by the name that the settings have for them."""


def find_task(name: str) -> type[Task]:
    """Returns the class of a task.

    Args:
        name: A built-in task, or ``FILE.py:CLASS``.

    Raises:
        ValueError: If there is no such task.
    """
    return find_class(name, TASKS, Task, "task")
