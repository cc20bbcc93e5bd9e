"""How RL² is trained in tests of what it learns."""

from metarl.agents import RL2


def trained(family, num_iterations, steps_per_episode=1, **options):
    agent = RL2(
        family,
        seed=0,
        trials_per_iteration=64,
        trials_per_minibatch=32,
        learning_rate=1e-2,
        anneal=True,
        gamma=options.pop("gamma", 1.0),
        gae_lambda=options.pop("gae_lambda", 1.0),
        policy_kwargs={"hidden_size": 16, **options.pop("policy_kwargs", {})},
        **options,
    )
    return agent.learn(num_iterations * 64 * family.episodes_per_trial * steps_per_episode)
