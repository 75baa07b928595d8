"""Whether a module is what its class says, so that its numbers may be computed another way."""

from __future__ import annotations

from torch.nn import Module
from torch.nn.modules import module as torch_module


def is_untouched(module: Module, *kinds: type[Module]) -> bool:
    """Returns whether a module is of one of some classes and nothing was put in the way of calling it.

    A hook, a ``forward`` of its own, and what ``spectral_norm``, ``prune`` or a parametrization puts in place of a
    weight are such things; who has them wants the module called.

    Args:
        module: The module.
        kinds: Its class must be one of these, and no subclass.
    """
    return (
        type(module) in kinds
        and "forward" not in module.__dict__
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
        and not hasattr(module, "parametrizations")
        and not torch_module._has_any_global_hook()
    )
