"""Agents and optimisers that are saved and read again, and all that must come back of them."""

from functools import partial

import torch
from toys import strolls

from metarl.agents import RL2

OPTIONS = {
    "trials_per_iteration": 4,
    "trials_per_minibatch": 2,
    "n_epochs": 1,
    "normalize_observation": True,
    "normalize_reward": True,
}


def trained(family=None, num_timesteps=40, seed=0, **options):
    network = {"hidden_size": 8, **options.pop("policy_kwargs", {})}
    agent = RL2(family or strolls(), seed=seed, policy_kwargs=network, **{**OPTIONS, **options})
    return agent.learn(num_timesteps)


def everything(agent):
    """All that training depends on, as bytes and numbers."""
    tensors = {
        f"{name}.{key}": value.clone()
        for name, module in agent.modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in agent.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": value.clone() for key, value in slots.items()}
    return tensors, (agent.iteration, agent.num_timesteps, agent.seed)


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), name


# Those that keep more than modules and Adam.


class Rehearsing(RL2):
    """Keeps the last returns, and lets them decide on what it learns."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.buffer = torch.zeros(0)
        self.num_seen = 0

    def update(self, experience):
        super().update(experience)
        returns = experience.trials().rewards.sum(0)
        self.num_seen += len(returns)
        self.buffer = torch.cat([self.buffer, returns])[-10:]
        with torch.no_grad():
            self.network.policy.bias += 1e-2 * self.buffer.mean() / self.num_seen

    def extra_state(self):
        return {"buffer": self.buffer}, {"num_seen": self.num_seen}

    def restore_extra_state(self, tensors, data):
        if tensors.keys() != {"buffer"} or data["num_seen"] < len(tensors["buffer"]):
            raise ValueError("the buffer is damaged")
        self.buffer, self.num_seen = tensors["buffer"], data["num_seen"]


def rehearsing():
    return Rehearsing(strolls(), seed=0, policy_kwargs={"hidden_size": 8}, **OPTIONS).learn(100)


OPTIMIZERS = {
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01, momentum=0.9, centered=True),
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "plain sgd": partial(torch.optim.SGD, lr=0.01),
    "adagrad": partial(torch.optim.Adagrad, lr=0.01),
}


def optimized(make, seed):
    """A module after three steps of an optimiser, which never sees one of its parameters."""
    modules = torch.nn.ModuleDict({"used": torch.nn.Linear(3, 2), "unused": torch.nn.Linear(1, 1)})
    generator = torch.Generator().manual_seed(seed)
    for parameter in modules.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    optimizer = make(modules.parameters())
    for step in range(3):
        descend(modules, optimizer, step + seed)
    return {"net": modules}, {"optimizer": optimizer}


def descend(modules, optimizer, seed):
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    modules["used"](inputs).square().mean().backward()
    optimizer.step()
