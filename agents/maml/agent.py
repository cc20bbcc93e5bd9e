"""MAML: parameters from which a gradient step on a few episodes solves a new task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.agents.common.graph import PolicyGraph
from metarl.agents.maml.adaptation import AdaptedPolicy, GradientAdaptation, RolloutBuffer
from metarl.agents.maml.inner import InnerLoop, InnerOptions
from metarl.agents.maml.outer import Measures, MetaProblem, ppo_steps, reptile_step, trpo_step
from metarl.agents.maml.policy import PolicyConfig, StackedPolicy
from metarl.agents.maml.presets import PRESETS
from metarl.agents.training.config import Config, Count, Discount, NotNegative, Positive, Range
from metarl.agents.training.online import OnlineLearner
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import OnStep, Rollout, rollout
from metarl.masks import find_mask
from metarl.seeding import Seed, stream_seed
from metarl.spaces import Values
from metarl.vector.env import TaskVectorEnv

Array = NDArray[Any]


@dataclass(frozen=True)
class MAMLConfig(Config):
    """The hyperparameters of MAML."""

    meta_batch_size: Count = 20
    """M, the tasks of an outer update."""
    episodes_per_adaptation: Count = 20
    """K, the episodes of each task before each inner step."""
    inner_steps: Annotated[int, Range(0, most=1000)] = 1
    """Inner steps in training; at test any number may be taken."""
    inner_lr: Positive = 0.1
    """The inner step size."""
    learn_inner_lr: Literal["per_step", "per_parameter"] | None = None
    """Learn the inner step sizes, from ``inner_lr`` on: one for each inner step (``"per_step"``),
    or one for each parameter (``"per_parameter"``); None keeps it fixed."""
    halve_inner_lr: bool = False
    """Whether, at test, steps after the first have half the size, as in Finn et al. 2017; in
    training all have the full size."""
    inner_objective: Literal["log_prob", "ratio"] = "log_prob"
    """What the inner step ascends, times advantages: ``"log_prob"`` or ``"ratio"``, whose second
    derivatives have lower variance or bias respectively."""
    adapt_only_last_layer: bool = False
    """Whether the inner step changes only the last layer."""
    first_order: bool = False
    """Whether to treat the inner gradient as a constant (first-order MAML)."""
    exploration_coef: NotNegative = 0.0
    """The weight of the support's log-probabilities times the query's returns."""
    gamma: Discount = 0.99
    """The discount factor."""
    gae_lambda: Discount = 1.0
    """The decay of generalised advantage estimation."""
    outer: Literal["trpo", "ppo", "reptile"] = "trpo"
    """The outer update: ``"trpo"``, ``"ppo"`` or ``"reptile"``."""
    max_kl: Positive = 0.01
    """The radius of the trust region, the mean divergence of adapted policies, of a TRPO step or of
    an iteration's PPO steps together."""
    cg_iterations: Count = 10
    """TRPO: the number of Fisher-vector products."""
    cg_damping: NotNegative = 1e-5
    """TRPO: added to the Fisher matrix's diagonal."""
    fisher_stride: Count = 10
    """TRPO: the products take every ``fisher_stride``-th step of the episodes, which take turns. A
    stride with a factor in common with their number counts as the next that has none, so that no
    episode is left out."""
    learning_rate: Positive = 1e-3
    """PPO and Reptile: Adam's step size. Reptile makes one step in an iteration; 0.01 suits it."""
    n_epochs: Count = 5
    """PPO: gradient steps, each on all collected data."""
    clip_range: Positive = 0.3
    """PPO: how far the ratio may move from 1."""
    policy_kwargs: dict[str, Any] | None = None
    """Arguments of the policy: ``hidden_sizes``, ``activation``, ``log_std_init``, ``output_gain``;
    see :class:`metarl.agents.maml.policy.PolicyConfig`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learn_inner_lr is not None and (self.inner_steps == 0 or self.outer == "reptile"):
            raise InvalidValueError(
                f"learn_inner_lr={self.learn_inner_lr!r} needs an outer gradient through inner "
                f"steps, got inner_steps={self.inner_steps} and outer={self.outer!r}"
            )
        if self.exploration_coef > 0 and self.meta_batch_size == 1:
            raise InvalidValueError(
                f"exploration_coef={self.exploration_coef} weighs tasks by how their returns "
                "differ from each other: meta_batch_size must be at least 2, got 1"
            )

    @property
    def inner(self) -> InnerOptions:
        """The part that inner steps need."""
        return InnerOptions(**{name: getattr(self, name) for name in InnerOptions.__annotations__})


class MAML(OnlineLearner[RolloutBuffer]):
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

    Its relatives are options. Those with a class and a name on the command line
    (:mod:`metarl.agents.maml.variants`) are this class with other defaults:

    =====================  ======================================================================
    FOMAML, ``fomaml``     ``first_order=True``: the inner gradient counts as a constant
    ANIL, ``anil``         ``adapt_only_last_layer=True`` (Raghu et al. 2020)
    Meta-SGD               ``learn_inner_lr="per_parameter"`` (Li et al. 2017)
    E-MAML, ``e-maml``     ``exploration_coef=1.0`` (Stadie et al. 2018)
    ProMP, ``promp``       ``inner_objective="ratio", outer="ppo"`` (Rothfuss et al. 2019)
    Reptile, ``reptile``   ``outer="reptile", learning_rate=1e-2`` (Nichol et al. 2018)
    multi-task, oracle     ``inner_steps=0``: no adaptation in training; on ``tasks.oracle()`` it
                           is the oracle
    =====================  ======================================================================

    Differences from the paper: advantages are standardised for each task. The Fisher-vector
    products of TRPO take every ``fisher_stride``-th step, and leave out the curvature of the
    inner loop that vanishes at the old parameters (they are J' F J, with J the derivative of the
    adapted parameters and F the Fisher matrix there); loss and divergence in the line search
    are those of all steps. ProMP has this trust region instead of its penalty on the inner
    divergence; where that shortens a step, Adam's moments stay those of the whole step, and where
    it rejects one, they return to what they were. E-MAML's term weighs with returns that are
    standardised over the tasks.

    Args:
        tasks: The family to train on.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, or options contradict each other.
    """

    name = "MAML"
    presets = PRESETS
    divisible = True
    num_tasks_option = "meta_batch_size"
    config: MAMLConfig
    config_class = MAMLConfig
    policy_config_class = PolicyConfig
    step_sizes = ("inner_lr", "learning_rate")

    @property
    def envs_per_task(self) -> int:
        return self.config.episodes_per_adaptation

    def build(self) -> None:
        config = self.config
        policy_config = PolicyConfig.build(config.policy_kwargs or {}, "policy_kwargs name")
        self.episodes_per_adaptation = config.episodes_per_adaptation
        weights = torch.Generator().manual_seed(stream_seed(self.seed, "network"))
        size = spaces.flatdim(self.observation_space)
        mask = find_mask(self.observation_space, self.action_space)
        columns = None if mask is None else mask.columns(images=True)
        self.policy = StackedPolicy(size, self.action_space, weights, policy_config, columns)
        self.policy.to(self.device)
        self.inner = InnerLoop(self.policy, config.inner)
        self.modules = {"policy": self.policy, "rates": self.inner.rates}
        if config.outer != "trpo":
            optimizer = torch.optim.Adam(self.inner.theta(), lr=config.learning_rate, fused=True)
            self.optimizers = {"optimizer": optimizer}

    # One iteration.

    def collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, RolloutBuffer]:
        observations = self.begin_tasks(env)
        recorder = RolloutBuffer(
            self.inner,
            self.observation_space,
            self.own_tasks.stop - self.own_tasks.start,
            self.envs_per_task,
            self.collecting_noise(),
        )
        num_rounds = self.config.inner_steps + 1
        return rollout(env, observations, recorder, num_rounds, on_step), recorder

    def update(self, experience: RolloutBuffer) -> None:
        experience.take_batch()
        means = self.ranks.mean(*(batch.returns.mean() for batch in experience.batches))
        for step, mean in enumerate(means):
            self.logger.record(f"rollout/return_after_{step}_steps", float(mean))
        norms = self.ranks.mean(*experience.gradient_norms)
        for step, norm in enumerate(norms):
            self.logger.record(f"train/inner_grad_norm_{step + 1}", float(norm))
        *supports, query = experience.batches
        problem = MetaProblem(self.inner, supports, query, self.config.exploration_coef, self.ranks)
        for name, value in self.outer_update(problem).items():
            self.logger.record(f"train/{name}", value)
        if self.policy.head.num_log_std:
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        for name, rate in self.inner.rates.items():
            self.logger.record(f"train/inner_lr_{name}", float(rate.detach().mean()))

    def outer_update(self, problem: MetaProblem) -> Measures:
        """Improve what is common to all tasks; return what was measured."""
        config = self.config
        if config.outer == "trpo":
            return trpo_step(
                problem,
                max_kl=config.max_kl,
                cg_iterations=config.cg_iterations,
                cg_damping=config.cg_damping,
                fisher_stride=config.fisher_stride,
            )
        if config.outer == "ppo":
            return ppo_steps(
                problem,
                self.optimizers["optimizer"],
                n_epochs=config.n_epochs,
                clip_range=config.clip_range,
                max_kl=config.max_kl,
            )
        return reptile_step(problem, self.optimizers["optimizer"])

    # Acting.

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        options = ("episodes_per_adaptation", "gae_lambda", "gamma", "halve_inner_lr")
        if self.config.learn_inner_lr is None:  # learned rates are restored, of what they are for
            return ("adapt_only_last_layer", *options, "inner_lr")
        return options

    def adaptation(
        self,
        num_tasks: int,
        *,
        seed: Seed = 0,
        deterministic: bool = False,
        episodes_per_adaptation: int | None = None,
        sequential: bool = False,
        shard: slice | None = None,
    ) -> GradientAdaptation:
        """Return a new copy of the policy for each of ``num_tasks`` tasks.

        Args:
            num_tasks: How many tasks there are, each in ``episodes_per_adaptation`` environments.
            seed: The seed of the actions.
            deterministic: Must be False: a policy gradient comes from actions that differ.
            episodes_per_adaptation: The episodes of a round; None takes those of training.
            sequential: Whether each task has a single environment, in which the episodes of a
                round are played one after another, as a robot in the field would.
            shard: Which of the tasks to act in, where others act in the rest; None is all.

        Raises:
            ValueError: If a number is below 1 or ``deterministic`` is set.
        """
        num_episodes = self.episodes_per_adaptation
        if episodes_per_adaptation is not None:
            num_episodes = episodes_per_adaptation
        check_at_least(1, num_tasks=num_tasks, episodes_per_adaptation=num_episodes)
        if deterministic:
            raise InvalidValueError(
                f"{self.name} adapts by a policy gradient, which needs sampled actions: use "
                "deterministic=False, or adaptation(...).policy(task).predict(...) once adapted"
            )
        noise = self.adaptation_noise(seed, num_tasks, shard)
        num_own = num_tasks if shard is None else shard.stop - shard.start
        return GradientAdaptation(
            self.inner, self.observation_space, num_own, num_episodes, noise, sequential
        )

    def single_adaptation(self, seed: Seed, deterministic: bool) -> GradientAdaptation:
        return self.adaptation(1, seed=seed, deterministic=deterministic, sequential=True)

    def policy_graph(self) -> PolicyGraph:
        return UnadaptedGraph(self)

    def predict(
        self,
        observation: Values,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Values, tuple[Array, ...] | None]:
        """Choose actions before any adaptation; see :meth:`AdaptedPolicy.predict`.

        The policy of a task is ``adaptation.policy(task)``, once it has seen its episodes.
        """
        unadapted = AdaptedPolicy(
            self.policy,
            self.observation_space,
            self.policy.stacked(1),
            self.prediction_noise(deterministic),
        )
        return unadapted.predict(observation, state, episode_start, deterministic)


class UnadaptedGraph(PolicyGraph):
    """The step of MAML's policy before adaptation, which is without a state.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: MAML):
        super().__init__(agent.observation_space, agent.action_space, False, [])
        self.policy = agent.policy

    def choose(
        self,
        row: torch.Tensor,
        pixels: torch.Tensor,
        history: torch.Tensor,
        state: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor | None, Sequence[torch.Tensor]]:
        parameters = self.policy.stacked(1)
        outputs = self.policy.outputs(row[None, None], parameters)[0, 0]
        return outputs, getattr(self.policy, "log_std", None), []
