"""Provide Muon for convolution and linear weights: momentum, orthogonalised by Newton-Schulz.

After Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024); the quintic
coefficients are his. In trials on the autoencoder it left a third less error than AdamW.
"""

from collections.abc import Iterable

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):  # type: ignore[misc]  # torch is Any to mypy
    """Step every weight of two or more dimensions by an orthogonal matrix times the rate.

    `lr` is relative to AdamW's: updates are scaled to a root mean square of 0.2 x `lr` x
    sqrt(longest edge) (Moonshot's rule), so the same peak serves both optimizers.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    def step(self, closure: None = None) -> None:
        """Apply one update to every parameter that has a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, group["lr"], group["momentum"])

    def _update(self, parameter: torch.Tensor, rate: float, momentum: float) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        buffer = state["momentum"]
        buffer.lerp_(parameter.grad, 1 - momentum)
        blended = parameter.grad.lerp(buffer, momentum)
        matrix = orthogonalised(blended.reshape(len(blended), -1))
        scale = 0.2 * max(matrix.shape) ** 0.5
        parameter.add_(matrix.view_as(blended).to(parameter.dtype), alpha=-rate * scale)


def orthogonalised(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return the nearest semi-orthogonal matrix, roughly: singular values within 0.7..1.2."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.bfloat16()
    tall = wide.size(0) > wide.size(1)
    if tall:
        wide = wide.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide.T if tall else wide
