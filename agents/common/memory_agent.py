"""What agents that adapt by a memory share: how they act, in evaluation and in ``predict``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agents.common.acting import ActingNetwork, MemoryAdaptation, RecurrentPolicy
from metarl.agents.common.graph import Input, PolicyGraph
from metarl.agents.common.memory.contract import State, map_state, tensors_of
from metarl.agents.common.normalization import Normalizer
from metarl.agents.training.learner import Learner
from metarl.batches import as_batch, take
from metarl.errors import InvalidValueError, check_at_least
from metarl.seeding import Seed
from metarl.spaces import Values
from metarl.trial import TrialInput

Array = NDArray[Any]


class MemoryAgent(Learner):
    """A learner whose network reads trials, and acts by what it has read.

    An agent sets the attributes in ``build``.

    Attributes:
        network: What acts.
        trial_input: Makes its inputs of observations and last transitions.
        episodes_per_trial: K, the episodes of the trials that it learns in.
        reset_memory_every: The number of episodes after which the memory is reset; None never.
    """

    network: ActingNetwork
    trial_input: TrialInput
    episodes_per_trial: int
    reset_memory_every: int | None

    def normalizer(self) -> Normalizer:
        """Return the function from rows to network inputs; here they are the same."""
        return Normalizer(self.trial_input.size, self.device)

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        return ("reset_memory_every",)

    def policy(self) -> RecurrentPolicy:
        """Return the acting policy, with the present moments."""
        return RecurrentPolicy(self.network, self.trial_input, self.normalizer(), self.device)

    def adaptation(
        self,
        num_tasks: int,
        *,
        seed: Seed = 0,
        deterministic: bool = False,
        shard: slice | None = None,
    ) -> MemoryAdaptation:
        """Return fresh memories for ``num_tasks`` tasks.

        The network has learned to use them for the K episodes of a trial. Beyond that, they can
        fail permanently; ``reset_memory_every`` resets them.

        Args:
            num_tasks: How many tasks there are.
            seed: The seed of the actions.
            deterministic: Whether to take the most likely action instead of sampling.
            shard: Which of the tasks to act in, where others act in the rest; None is all.
        """
        check_at_least(1, num_tasks=num_tasks)
        noise = None if deterministic else self.adaptation_noise(seed, num_tasks, shard)
        num_own = num_tasks if shard is None else shard.stop - shard.start
        return MemoryAdaptation(self.policy(), num_own, noise, self.reset_memory_every)

    def policy_graph(self) -> PolicyGraph:
        return MemoryGraph(self)

    def evaluation_warning(self, num_episodes: int) -> str | None:
        """Return a warning for reports about this number of episodes in a task, if any."""
        trial = self.episodes_per_trial
        if min(num_episodes, self.reset_memory_every or num_episodes) <= trial:
            return None
        return (
            f"{self.name} was trained in trials of {trial} episodes and is evaluated on "
            f"{num_episodes}: in the later ones its memory may fail (reset it with "
            f"reset_memory_every={trial})"
        )

    def predict(
        self,
        observation: Values,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Values, tuple[Array, ...]]:
        """Choose actions in trial environments (:class:`metarl.TrialEnv`). SB3's signature.

        Args:
            observation: An observation of a trial environment: a row, or a batch of rows of shape
                (n, size); with images a dictionary of ``row`` and ``pixels``.
            state: What the last call returned; None at the start.
            episode_start: Where a new trial begins, of shape (n,); the memory is reset there.
            deterministic: Whether to take the most likely action instead of sampling.

        Returns:
            The actions, and the state: one array of n rows for each tensor of it.

        Raises:
            ValueError: If the observation is not that of a trial environment, or the state none
                that was returned for as many.
        """
        try:
            batch, single = as_batch(self.trial_input.space(), observation)
        except InvalidValueError as error:
            raise InvalidValueError(
                f"predict() needs rows of length {self.trial_input.size}, as from a TrialEnv "
                f"(observation, last action, last reward, episode end): {error}"
            ) from None
        images = bool(self.trial_input.num_pixels)
        row = batch["row"] if images else batch
        pixel = batch["pixels"] if images else np.zeros((len(row), 0), np.uint8)
        rows = torch.as_tensor(row, dtype=torch.float32, device=self.device)
        pixels = torch.as_tensor(pixel, device=self.device)
        trials = self.network.initial_state(len(rows))
        if state is not None:
            trials = self._state_of(state, trials)
        if episode_start is not None:
            starts = np.asarray(episode_start, dtype=np.bool_).reshape(-1)
            trials = self.network.reset(trials, torch.as_tensor(starts, device=self.device))
        noise = self.prediction_noise(deterministic)
        actions, _, trials = self.policy().act(rows, pixels, trials, noise)
        chosen = self.network.action_head.to_env(actions)
        after = tuple(tensor.detach().cpu().numpy() for tensor in tensors_of(trials))
        return (take(chosen, 0) if single else chosen), after

    def _state_of(self, arrays: tuple[Array, ...], like: State) -> State:
        """Return the state that ``predict`` has returned as arrays.

        Raises:
            ValueError: If it is another's.
        """
        expected = tensors_of(like)
        if len(arrays) != len(expected) or any(
            np.shape(array)[:1] != tensor.shape[:1] for array, tensor in zip(arrays, expected)
        ):
            raise InvalidValueError(
                f"state must be what predict() returned for {len(expected[0])} observations, "
                f"{len(expected)} arrays of as many rows; got the shapes "
                f"{[np.shape(array) for array in arrays]}; pass None at the start"
            )
        given = iter(arrays)
        state: State = map_state(lambda _: torch.tensor(next(given), device=self.device), like)
        return state


class MemoryGraph(PolicyGraph):
    """The step of an agent with a memory.

    Its state is the number of steps in the trial, the memory's tensors, and with
    ``reset_memory_every`` the number of episodes.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: MemoryAgent):
        network, part = agent.network, agent.trial_input
        time, memory = network.initial_state(1)
        tensors = tensors_of(memory)
        self._memory, self._every = memory, agent.reset_memory_every
        state = [Input("step", time[0])]
        state += [Input(f"memory_{i}", t[0], 0 in t.shape) for i, t in enumerate(tensors)]
        if self._every is not None:
            state.append(Input("episode", torch.zeros((), dtype=torch.int64)))
        super().__init__(part.observation_space, part.action_space, True, state)
        self.network = network
        self._normalize = agent.normalizer()

    def choose(
        self,
        row: torch.Tensor,
        pixels: torch.Tensor,
        history: torch.Tensor,
        state: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor | None, Sequence[torch.Tensor]]:
        time, *tensors = state
        counted = []
        if self._every is not None:
            ended = (history[-1] > 0) & (time > 0)
            counted = [tensors.pop() + ended]
            fresh = ended & (counted[0] % self._every == 0)
            # A memory that grows does not look at what was before step 0.
            tensors = [tensor.masked_fill(fresh, 0.0) for tensor in tensors]
            time = time.masked_fill(fresh, 0)
        history = history.masked_fill(time == 0, 0.0)
        rows = torch.cat([row, history])[None]
        if not self._normalize.changes_nothing:
            rows = self._normalize(rows)
        given = iter(tensors)
        memory = map_state(lambda _: next(given)[None], self._memory)
        outputs, (time, memory) = self.network.act(rows, pixels[None], (time[None], memory))
        after = [tensor[0] for tensor in (time, *tensors_of(memory))]
        return outputs[0], self.network.log_std, [*after, *counted]
