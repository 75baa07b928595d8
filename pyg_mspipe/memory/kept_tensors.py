"""Tensors that are saved and moved with a module, but are no buffers of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module


class KeptTensors(Module):
    """A module with tensors that its ``state_dict`` holds like buffers, under their attributes' names.

    They are no buffers, since ``DistributedDataParallel`` copies rank 0's over those of the other processes at each
    forward, and what is kept here belongs to one process.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    """The names of the attributes."""

    def kept_tensors(self) -> tuple[Tensor, ...]:
        """Returns the tensors, [N, ...] each, in the order of ``kept``."""
        return tuple(getattr(self, name) for name in self.kept)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.kept:
            x = getattr(self, name)
            destination[prefix + name] = x if keep_vars else x.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = {prefix + name: state_dict.pop(prefix + name, None) for name in self.kept}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        for (key, given), kept, name in zip(own.items(), self.kept_tensors(), self.kept, strict=True):
            if given is None:
                missing_keys.extend([key] if strict else [])
                continue
            state_dict[key] = given
            if given.shape != kept.shape:
                error_msgs.append(f"{key} has shape {tuple(given.shape)}, the module's is {tuple(kept.shape)}")
            elif local_metadata.get("assign_to_params_buffers", False):
                setattr(self, name, given)
            else:
                with torch.no_grad():
                    kept.copy_(given)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self.kept:
            setattr(self, name, self._moved(getattr(self, name), fn))
        return self

    def _moved(self, x: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns a kept tensor as ``fn``, which moves the module's other ones, has it."""
        return fn(x)
