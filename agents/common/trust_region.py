"""Trust-region steps: conjugate gradient and backtracking line search, on flat vectors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Product = Callable[[torch.Tensor], torch.Tensor]
"""Multiplies a vector by a symmetric positive definite matrix that is never formed."""


def flatten(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Lay tensors end to end in one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Cut a vector into tensors of the shapes of ``like``."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like)]


def conjugate_gradient(
    product: Product, target: torch.Tensor, num_iterations: int, tolerance: float = 1e-10
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve ``A x = target`` for x (Hestenes and Stiefel 1952).

    Args:
        product: Multiplies by A.
        target: Of shape (n,).
        num_iterations: How many products at most.
        tolerance: Stop when the squared residual falls below this share of its first value.

    Returns:
        x, of shape (n,), and the residual ``target - A x`` that is left.
    """
    solution = torch.zeros_like(target)
    residual = target.clone()
    direction = residual
    squared = first = residual.dot(residual)
    for _ in range(num_iterations):
        if squared <= tolerance * first:
            break
        image = product(direction)
        step = squared / direction.dot(image)
        solution = solution + step * direction
        residual = residual - step * image
        previous, squared = squared, residual.dot(residual)
        direction = residual + (squared / previous) * direction
    return solution, residual


def fisher_product(
    theta: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    divergence: torch.Tensor,
    damping: float,
) -> Product:
    """Return the product with the Hessian, by ``theta``, of a divergence that is least here.

    The divergence is a function of ``inputs``, for which ``outputs`` stand, a function of theta:
    parameters after adaptation. With J the derivative of the outputs and F the Hessian by the
    inputs, the product is that with J' F J + damping: terms with second derivatives of the
    outputs are multiplied by the divergence's gradient, which is zero.

    Args:
        theta: The parameters.
        outputs: Computed from them, differentiably twice.
        inputs: Leaves of the same shapes.
        divergence: A scalar, computed from the inputs, whose gradient vanishes there.
        damping: Added to the diagonal.
    """
    slopes = torch.autograd.grad(divergence, inputs, create_graph=True, materialize_grads=True)
    # J' u is linear in u, and its derivative by u, transposed, is J.
    duals = [torch.zeros_like(tensor, requires_grad=True) for tensor in outputs]
    pulled = torch.autograd.grad(outputs, theta, duals, create_graph=True, materialize_grads=True)

    def transposed(
        values: Sequence[torch.Tensor], by: Sequence[torch.Tensor], vector: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(values, by, vector, retain_graph=True, materialize_grads=True)

    def product(vector: torch.Tensor) -> torch.Tensor:
        pushed = transposed(pulled, duals, unflatten(vector, theta))
        curved = transposed(slopes, inputs, pushed)
        return flatten(transposed(outputs, theta, curved)) + damping * vector

    return product


@dataclass(frozen=True)
class LineSearch:
    """The outcome of a line search.

    Attributes:
        step: What to add to the parameters; zero if no step was accepted.
        num_tries: How many steps were tried.
        loss: The loss after the step.
        kl: The divergence from the old policy after the step.
    """

    step: torch.Tensor
    num_tries: int
    loss: float
    kl: float


def line_search(
    evaluate: Callable[[torch.Tensor], tuple[float, float]],
    full_step: torch.Tensor,
    loss: float,
    max_kl: float,
    *,
    shrink: float = 0.8,
    max_tries: int = 15,
) -> LineSearch:
    """Shorten a step until it lowers the loss within the trust region (Schulman et al. 2015).

    Lengths that would be too long, by the divergence of the last one, are not tried.

    Args:
        evaluate: Returns loss and divergence after a step.
        full_step: The step to begin with.
        loss: The loss without a step.
        max_kl: The radius of the trust region.
        shrink: The factor between two tries.
        max_tries: How many lengths there are.

    Returns:
        The first step that was good, or none.
    """
    exponent = num_tries = 0
    while exponent < max_tries:
        step = shrink**exponent * full_step
        new_loss, kl = evaluate(step)
        num_tries += 1
        if new_loss < loss and kl <= max_kl:  # false for nan too
            return LineSearch(step, num_tries, new_loss, kl)
        exponent += _lengths_on(kl / max_kl, shrink)
    return LineSearch(torch.zeros_like(full_step), num_tries, loss, 0.0)


def _lengths_on(excess: float, shrink: float) -> int:
    """Return by how many lengths to shorten, given how many times too large the divergence is.

    Near zero the divergence grows with the square of the step, farther away it does not, so the
    result is four at most.
    """
    if not 1.0 < excess < math.inf:
        return 1
    return min(math.ceil(math.log(excess) / (-2.0 * math.log(shrink))), 4)
