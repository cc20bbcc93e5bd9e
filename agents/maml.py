"""MAML: parameters from which a gradient step on a few episodes solves a new task."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from metarl.adaptation import Rollout, rollout
from metarl.agents.base import MetaAgent
from metarl.agents.inner_loop import (
    AdaptedPolicy,
    Batch,
    GradientAdaptation,
    Recorder,
    task_mean,
)
from metarl.agents.outer_loop import OUTER_UPDATES
from metarl.agents.stacked import Stacked, StackedPolicy
from metarl.errors import check_at_least, check_names
from metarl.seeding import Seed, stream_seed
from metarl.tasks import TaskDistribution
from metarl.vector import TaskVectorEnv

Array = NDArray[Any]


class MAML(MetaAgent):
    """Model-agnostic meta-learning for reinforcement learning (Finn et al. 2017).

    ::

        repeat
            sample tasks from the train split, M of them; theta_i = theta for each
            for each inner step
                collect K episodes of each task i with theta_i         (support)
                theta_i = theta_i + inner_lr * policy gradient at theta_i
            collect K episodes of each task i with theta_i             (query)
            J(theta) = mean over i of the surrogate of the query at theta_i(theta)
            theta = a TRPO step up J, through the inner steps          (outer="trpo")

    The parameters of all tasks are stacked, so a layer of all policies is one batched product,
    and one backward pass gives every task its inner gradient.

    Its relatives are options:

    =====================  ======================================================================
    FOMAML                 ``first_order=True``: the inner gradient counts as a constant
    ANIL                   ``adapt_only_last_layer=True`` (Raghu et al. 2020)
    Meta-SGD               ``learn_inner_lr="per_parameter"`` (Li et al. 2017)
    E-MAML                 ``exploration_coef=1.0`` (Stadie et al. 2018)
    ProMP                  ``inner_objective="ratio", outer="ppo"`` (Rothfuss et al. 2019)
    Reptile                ``outer="reptile"`` (Nichol et al. 2018)
    multi-task, oracle     ``inner_steps=0``: no adaptation in training; on ``tasks.told()`` it is
                           the oracle
    =====================  ======================================================================

    Differences from the paper: advantages are standardised for each task. The Fisher-vector
    products of TRPO take every ``fisher_stride``-th step, and leave out the curvature of the
    inner loop that vanishes at the old parameters (they are J' F J, with J the derivative of the
    adapted parameters and F the Fisher matrix there); loss and divergence in the line search
    are those of all steps. ProMP has this trust region instead of its penalty on the inner
    divergence. E-MAML's term weighs with returns that are standardised over the tasks.

    Args:
        tasks: The family to train on.
        meta_batch_size: M, the tasks of an outer update.
        episodes_per_adaptation: K, the episodes of each task before each inner step.
        inner_steps: Inner steps in training; at test any number may be taken.
        inner_lr: The inner step size.
        learn_inner_lr: Learns the inner step sizes, from ``inner_lr`` on: one for each inner step
            (``"per_step"``), or one for each parameter (``"per_parameter"``); None keeps it fixed.
        halve_inner_lr: Whether, at test, steps after the first have half the size.
        inner_objective: What the inner step ascends, times advantages: ``"log_prob"`` or
            ``"ratio"``, whose second derivatives have lower variance or bias respectively.
        adapt_only_last_layer: Whether all other parameters stay as they are in the inner step.
        first_order: Whether to ignore that the inner gradient depends on the parameters.
        exploration_coef: The weight of the support's log-probabilities times the query's returns.
        gamma: The discount factor.
        gae_lambda: The decay of generalised advantage estimation.
        outer: ``"trpo"``, ``"ppo"`` or ``"reptile"``.
        max_kl: The radius of the trust region, the mean divergence of adapted policies, of a TRPO
            step or of an iteration's PPO steps together.
        cg_iterations: TRPO: the number of Fisher-vector products.
        cg_damping: TRPO: added to the Fisher matrix's diagonal.
        fisher_stride: TRPO: the products take every so many steps of the episodes.
        learning_rate: PPO: Adam's step size. Reptile: the share of the way to the adapted
            parameters.
        n_epochs: PPO: gradient steps, each on all that was collected.
        clip_range: PPO: how far the ratio may move from 1.
        policy_kwargs: Arguments of :class:`metarl.agents.stacked.StackedPolicy`:
            ``hidden_sizes``, ``activation``, ``log_std_init``, ``output_gain``.
        verbose: 1 prints the log of every iteration.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        ValueError: If a value is out of its range, or options contradict each other.
    """

    name = "MAML"

    def __init__(
        self,
        tasks: TaskDistribution,
        *,
        meta_batch_size: int = 20,
        episodes_per_adaptation: int = 20,
        inner_steps: int = 1,
        inner_lr: float = 0.1,
        learn_inner_lr: str | None = None,
        halve_inner_lr: bool = False,
        inner_objective: str = "log_prob",
        adapt_only_last_layer: bool = False,
        first_order: bool = False,
        exploration_coef: float = 0.0,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        outer: str = "trpo",
        max_kl: float = 0.01,
        cg_iterations: int = 10,
        cg_damping: float = 1e-5,
        fisher_stride: int = 10,
        learning_rate: float = 1e-3,
        n_epochs: int = 5,
        clip_range: float = 0.3,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        tensorboard_log: str | None = None,
    ):
        arguments = locals()
        check_at_least(
            1,
            meta_batch_size=meta_batch_size,
            episodes_per_adaptation=episodes_per_adaptation,
            cg_iterations=cg_iterations,
            fisher_stride=fisher_stride,
            n_epochs=n_epochs,
        )
        super().__init__(
            tasks,
            num_envs=meta_batch_size * episodes_per_adaptation,
            hyperparameters={name: arguments[name] for name in self.hyperparameter_names()},
            seed=seed,
            device=device,
            verbose=verbose,
            tensorboard_log=tensorboard_log,
        )
        check_at_least(
            0, inner_steps=inner_steps, exploration_coef=exploration_coef, cg_damping=cg_damping
        )
        check_names([outer], OUTER_UPDATES, "outer")
        check_names([inner_objective], ["log_prob", "ratio"], "inner_objective")
        if learn_inner_lr is not None:
            check_names([learn_inner_lr], ["per_step", "per_parameter"], "learn_inner_lr")
            if inner_steps == 0 or outer == "reptile":
                raise ValueError(
                    f"learn_inner_lr={learn_inner_lr!r} needs an outer gradient through inner "
                    f"steps, got inner_steps={inner_steps} and outer={outer!r}"
                )
        for name, value, high in (
            ("inner_lr", inner_lr, float("inf")),
            ("learning_rate", learning_rate, float("inf")),
            ("max_kl", max_kl, float("inf")),
            ("clip_range", clip_range, float("inf")),
            ("gamma", gamma, 1.0),
            ("gae_lambda", gae_lambda, 1.0),
        ):
            if not 0.0 < value <= high:
                raise ValueError(f"{name} must be in (0, {high:g}], got {value}")
        self.meta_batch_size = meta_batch_size
        self.episodes_per_adaptation = episodes_per_adaptation
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.halve_inner_lr = halve_inner_lr
        self.inner_objective = inner_objective
        self.adapt_only_last_layer = adapt_only_last_layer
        self.first_order = first_order
        self.exploration_coef = exploration_coef
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.outer = outer
        self.max_kl = max_kl
        self.cg_iterations = cg_iterations
        self.cg_damping = cg_damping
        self.fisher_stride = fisher_stride
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.clip_range = clip_range

        weights = torch.Generator().manual_seed(stream_seed(self.seed, "network"))
        size = spaces.flatdim(self.observation_space)
        self.policy = StackedPolicy(size, self.action_space, weights, **(policy_kwargs or {}))
        self.policy.to(self.device)
        self.rates = self._initial_rates()
        self._modules = {"policy": self.policy, "rates": self.rates}
        if outer == "ppo":
            optimizer = torch.optim.Adam(self.theta(), lr=learning_rate, fused=True)
            self._optimizers = {"optimizer": optimizer}

    def _initial_rates(self) -> nn.ParameterDict:
        rates: dict[str, nn.Parameter] = {}
        if self.learn_inner_lr == "per_step":
            rates["steps"] = nn.Parameter(torch.full((self.inner_steps,), self.inner_lr))
        elif self.learn_inner_lr == "per_parameter":
            for name in self._adapted_names():
                like = self.policy.get_parameter(name)
                rates[name] = nn.Parameter(torch.full_like(like, self.inner_lr))
        return nn.ParameterDict(rates).to(self.device)

    def _adapted_names(self) -> list[str]:
        names = [name for name, _ in self.policy.named_parameters()]
        return [n for n in names if not self.adapt_only_last_layer or n in self.policy.last_layer]

    def theta(self) -> list[nn.Parameter]:
        """Return what the outer loop learns: the policy's parameters and the inner rates."""
        return [*self.policy.parameters(), *self.rates.parameters()]

    # The inner loop.

    def inner_step(
        self,
        parameters: Stacked,
        batch: Batch,
        step: int,
        *,
        scale: float = 1.0,
        differentiable: bool = False,
    ) -> tuple[Stacked, float]:
        """Take one step up every task's policy gradient (Finn et al. 2017, eq. 4).

        Args:
            parameters: The parameters of every task, as part of a graph or as leaves.
            batch: Episodes acted with them.
            step: The number of steps before this one.
            scale: A factor on the step size.
            differentiable: Whether the outcome is to be differentiated.

        Returns:
            The new parameters, and the mean over tasks of the gradients' norm.
        """
        log_probs = self.policy(batch.observations, parameters).log_prob(batch.actions)
        if self.inner_objective == "ratio":
            log_probs = (log_probs - batch.log_probs).exp()
        objective = task_mean(log_probs * batch.advantages, batch.mask).sum()
        names = self._adapted_names()
        gradients = torch.autograd.grad(
            objective,
            [parameters[name] for name in names],
            create_graph=differentiable and not self.first_order,
        )
        updated = dict(parameters)
        for name, gradient in zip(names, gradients):
            updated[name] = parameters[name] + scale * self._rate(name, step) * gradient
        squares = torch.stack([g.detach().flatten(1).square().sum(1) for g in gradients])
        return updated, float(squares.sum(0).sqrt().mean())

    def _rate(self, name: str, step: int) -> torch.Tensor | float:
        if self.learn_inner_lr is None:
            return self.inner_lr
        rate: torch.Tensor
        if self.learn_inner_lr == "per_parameter":
            rate = self.rates[name]
        else:
            rate = self.rates["steps"][min(step, self.inner_steps - 1)]
        return rate

    def adapt(self, supports: Sequence[Batch], differentiable: bool) -> Stacked:
        """Return every task's parameters after the inner steps in training.

        Args:
            supports: The episodes of each step.
            differentiable: Whether to differentiate the outcome by theta.
        """
        parameters = self.policy.stacked(self.meta_batch_size)
        for step, batch in enumerate(supports):
            parameters, _ = self.inner_step(parameters, batch, step, differentiable=differentiable)
        return parameters

    # One iteration.

    def _collect(self, env: TaskVectorEnv) -> Rollout:
        num_episodes = self.n_envs // self.meta_batch_size
        sampled = self.tasks.sample("train", self.meta_batch_size, self._seed("tasks"))
        env.set_tasks(sampled.repeat(num_episodes))
        observations, _ = env.reset(seed=self._seed("envs"))
        actions = self._generator("actions")
        self._recorder = Recorder(self, self.meta_batch_size, num_episodes, actions)
        return rollout(env, observations, self._recorder, self.inner_steps + 1)

    def _update(self) -> None:
        recorder = self._recorder
        recorder.take_batch()
        *supports, query = recorder.batches
        for step, batch in enumerate(recorder.batches):
            mean = float(batch.returns.mean())
            self.logger.record(f"rollout/return_after_{step}_steps", mean)
        for step, norm in enumerate(recorder.gradient_norms):
            self.logger.record(f"train/inner_grad_norm_{step + 1}", norm)
        OUTER_UPDATES[self.outer](self, supports, query)
        if self.policy.head.has_log_std:
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        for name, rate in self.rates.items():
            self.logger.record(f"train/inner_lr_{name}", float(rate.detach().mean()))
        del self._recorder

    # Acting.

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> GradientAdaptation:
        """Return a fresh copy of the policy for each of ``num_tasks`` tasks.

        Args:
            num_tasks: How many tasks to act in, each in ``episodes_per_adaptation`` environments.
            seed: The seed of the actions.
            deterministic: Must be False: a policy gradient comes from actions that differ.

        Raises:
            ValueError: If ``num_tasks`` is below 1 or ``deterministic`` is set.
        """
        check_at_least(1, num_tasks=num_tasks)
        if deterministic:
            raise ValueError(
                f"{self.name} adapts by a policy gradient, which needs sampled actions: use "
                "deterministic=False, or adaptation(...).policy(task).predict(...) once adapted"
            )
        generator = torch.Generator(self.device)
        generator.manual_seed(stream_seed(seed, "actions"))
        return GradientAdaptation(self, num_tasks, self.episodes_per_adaptation, generator)

    def predict(
        self,
        observation: Array,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Choose actions before any adaptation; see :meth:`AdaptedPolicy.predict`.

        The policy of a task is ``adaptation.policy(task)``, once it has seen its episodes.
        """
        if not hasattr(self, "_predict_generator"):
            self._predict_generator = torch.Generator(self.device)
            self._predict_generator.manual_seed(stream_seed(self.seed, "predict"))
        unadapted = AdaptedPolicy(self, self.policy.stacked(1), self._predict_generator)
        return unadapted.predict(observation, state, episode_start, deterministic)
