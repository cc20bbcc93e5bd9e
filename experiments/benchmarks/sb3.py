"""SB3's PPO on a family of robots, against the same PPO on processes of gymnasium's robot.

Both have the same number of environments, network, rollouts and epochs; they take turns in one run.

Run: ``python -m metarl.experiments.benchmarks.sb3``
"""

import functools
import time

import gymnasium
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from metarl import envs
from metarl.agents import TaskVecEnv

HORIZON = 200


def main(
    family: str = "half-cheetah-vel",
    env_id: str = "HalfCheetah-v5",
    num_envs: int = 64,
    rounds: int = 3,
) -> None:
    """Train both for a few rollouts in turn, and print env steps per second.

    Args:
        family: A family of robots.
        env_id: gymnasium's environment of the same robot.
        num_envs: The environments of a batch; as many processes for gymnasium's.
        rounds: How often both are timed.
    """
    make = functools.partial(gymnasium.make, env_id, max_episode_steps=HORIZON)
    subproc: VecEnv = SubprocVecEnv([make] * num_envs, start_method="spawn")
    venvs = {"TaskVecEnv": TaskVecEnv(envs.make(family), num_envs), "SubprocVecEnv": subproc}
    options = {"n_steps": HORIZON, "batch_size": num_envs * HORIZON // 4, "device": "cpu"}
    agents = {
        name: PPO("MlpPolicy", venv, seed=0, **options)  # type: ignore[arg-type]
        for name, venv in venvs.items()
    }
    for agent in agents.values():
        agent.learn(1)
    ratios = []
    for round_ in range(rounds):
        rates = {name: _rate(agent, num_envs * HORIZON) for name, agent in agents.items()}
        ratios.append(rates["TaskVecEnv"] / rates["SubprocVecEnv"])
        shown = ", ".join(f"{name} {rate:,.0f} env steps/s" for name, rate in rates.items())
        print(f"round {round_ + 1}: {shown}: {ratios[-1]:.1f} times")
    print(f"median: {sorted(ratios)[len(ratios) // 2]:.1f} times")
    for venv in venvs.values():
        venv.close()


def _rate(agent: PPO, num_steps: int) -> float:
    start = time.perf_counter()
    agent.learn(num_steps, reset_num_timesteps=False)
    return num_steps / (time.perf_counter() - start)


if __name__ == "__main__":
    tyro.cli(main)
