"""Cases of fuzz.py: command lines, and calls of the Python interface with arguments of any kind."""

import contextlib
import itertools
import json

import numpy as np
from fuzzing import MAD, SMALL, attempt, command, complaint

import metarl
from metarl import Report, envs
from metarl.agents import AGENTS, MAML, RL2, OnlineLearner

ONLINE = [name for name, kind in AGENTS.items() if issubclass(kind, OnlineLearner)]
FAMILIES = [
    *("bandit-2x2", "bandit-3x2", "navigation-2d", "bandit-2x1", "bandit-99999999999x2", "file"),
    *("bandit-2x99999999999", "os:getcwd", "x:y", "./x.py:t", ":", "bandit-2x2-oracle", "", "[/x]"),
    "\x1b[31m",
]


class CommandLines:
    """Cases of command lines, with what people mistype and what nobody means."""

    def __init__(self, runs):
        self.runs = [str(run) for run in runs.values()]
        self.count = itertools.count()

    def case(self, rng):
        words = self.words(rng)
        wrong, _ = command(words)
        if wrong is not None:
            return f"metarl {' '.join(map(repr, words))}: {wrong}"
        return None

    def words(self, rng):
        value = self.value
        run = [rng.choice([*self.runs, *self.runs, *self.runs, "nothing", ".", "/", "", "file"])]
        options = {
            "--split": ["held_out", "train", "uphill", ""],
            "--num-tasks": ["2", "3"],
            "--num-episodes": ["2", "4", "10"],
            "--seed": ["0", "7"],
            "--trust": ["os", "", "my_tasks"],
        }
        kind = rng.choice(["list", "train", "train", "evaluate", "evaluate", "compare", "watch"])
        kind = rng.choice([kind] * 30 + ["resume", "", "--help", "trian"])
        if kind == "list":
            words = rng.sample(["rl2", "maml", "x", ""], rng.randrange(2))
            options = {}
        elif kind == "train":
            agent = rng.choice(["rl2", "maml", "multi-task", "rl3", ""])
            family = rng.choice(FAMILIES)
            words = [agent, family, "--run-dir"]
            words += [rng.choice([f"r{next(self.count)}"] * 9 + ["file"])]
            words += ["--total-timesteps", rng.choice(["1"] * 9 + ["0", "x", "1.5"])]
            settings = SMALL.get(agent, {})
            for name, setting in settings.items():
                words += ["--set", f"{name}={json.dumps(setting)}"]
            options = {
                "--seed": ["0", "7"],
                "--device": ["cpu", "auto", "cuda", "x", "meta", "mps", "cuda:99", "cpu:7", ""],
                "--threads": ["1", "2"],
            }
            if agent in AGENTS:
                names = AGENTS[agent].hyperparameter_names()
                options["--set"] = [
                    f"{rng.choice(names)}={value(rng)}" for _ in range(rng.randrange(1, 3))
                ]
                kwargs = json.dumps(
                    {
                        rng.choice(["hidden_size", "hidden_sizes", "memory", "x"]): rng.choice(
                            [m for m in MAD if m != 10**400]
                        )
                    }
                )
                options["--set "] = [f"policy_kwargs={kwargs}"]
        else:
            words = run
            if kind == "compare":
                words = run + rng.sample(self.runs, rng.randrange(2))
            if kind in ("compare", "watch"):
                options["--output"] = ["c.png", "c.gif", "c", "", "/", "file/c.png", "no/c.gif"]
        for name in rng.sample(sorted(options), min(len(options), rng.randrange(4))):
            known = rng.choice(options[name])
            words += [name.strip(), known if rng.random() < 0.6 else value(rng)]
        if rng.random() < 0.05:
            words.insert(rng.randrange(len(words) + 1), value(rng))
        return [kind, *words]

    @staticmethod
    def value(rng):
        mad = rng.choice(MAD)
        text = mad if isinstance(mad, str) else json.dumps(mad)
        return text.replace("\ud800", "?")[:4000]


class Calls:
    """Cases of calls of the Python interface with arguments of any kind."""

    def __init__(self):
        self.bandits, self.plane = envs.bandit(2, 2), envs.navigation_2d(horizon=3)
        self.agents = {
            "rl2": RL2(self.bandits, seed=0, **SMALL["rl2"]),
            "maml": MAML(self.plane, seed=0, **SMALL["maml"]),
        }
        self.report = metarl.evaluate(self.agents["rl2"], self.bandits, num_tasks=4)
        self.report.save(".", "good")

    def case(self, rng):
        names = [name for name in dir(self) if name.startswith("call_")]
        name = rng.choice(names)
        given = []

        def mad(*good, share=0.5):
            """A mad value, or one of those that will do."""
            value = rng.choice(good) if good and rng.random() > share else rng.choice(MAD)
            given.append(f"{value!r:.60}")
            return value

        outcome = attempt(lambda: getattr(self, name)(mad, rng))
        wrong = complaint(outcome)
        return wrong and f"{name[5:]} with {', '.join(given)}: {wrong}"

    def call_make(self, mad, rng):
        envs.make(mad("bandit-2x2"))

    def call_bandit(self, mad, rng):
        envs.bandit(mad(2), mad(3)).make_vec(mad(2)).reset(seed=mad(0))

    def call_navigation(self, mad, rng):
        envs.navigation_2d(squared=mad(True), horizon=mad(3)).make_vec(mad(2))

    def call_sample(self, mad, rng):
        self.plane.sample(mad("train", "held_out"), mad(3), seed=mad(0))

    def call_sampler(self, mad, rng):
        self.plane.sampler(mad("train"))

    def call_oracle(self, mad, rng):
        self.plane.oracle().make_vec(mad(2)).set_tasks(mad())

    def call_uniform(self, mad, rng):
        metarl.Uniform(mad(0.0), mad(1.0), nominal=mad(None, 0.5)).sample(
            np.random.default_rng(), 2
        )

    def call_log_uniform(self, mad, rng):
        metarl.LogUniform(mad(0.5), mad(1.0)).sample(np.random.default_rng(), 2)

    def call_choice(self, mad, rng):
        metarl.Choice(mad([1, 2]), mad(None, 1)).sample(np.random.default_rng(), 2)

    def call_task_set(self, mad, rng):
        tasks = metarl.TaskSet(mad({"a": [1, 2, 3]}, {"a": [1.0, 2.0], "b": ["x", "y"]}))
        tasks.split(mad(0.5), seed=mad(0))

    def call_distribution(self, mad, rng):
        metarl.TaskDistribution(
            name=mad("mine"),
            parameters=mad(self.plane.parameters),
            env_factory=self.plane.env_factory,
            splits=mad({}, {"hard": {"goal": metarl.Uniform(0.0, 0.1, (2,))}}),
            episodes_per_trial=mad(2),
            statistic=mad("iqm"),
        ).sample("train", 2, 0)

    def call_evaluate(self, mad, rng):
        agent = rng.choice(list(self.agents.values()))
        metarl.evaluate(
            mad(agent, share=0.1),
            mad(agent.tasks, share=0.1),
            split=mad("train", "held_out", share=0.2),
            num_tasks=mad(2, 3, share=0.2),
            num_episodes=mad(2, None, share=0.2),
            seed=mad(0, share=0.2),
            deterministic=mad(False, share=0.1),
        )

    def call_hyperparameter(self, mad, rng):
        name = rng.choice(ONLINE)
        tasks = self.plane if name == "maml" else self.bandits
        hyperparameter = rng.choice(AGENTS[name].hyperparameter_names())
        AGENTS[name](tasks, seed=0, **{**SMALL[name], hyperparameter: mad()}).learn(1)

    def call_policy_kwargs(self, mad, rng):
        name = rng.choice(ONLINE)
        key = rng.choice(["hidden_size", "memory", "encoder", "separate_critic", "log_std_init"])
        if name != "rl2":
            key = rng.choice(["hidden_sizes", "activation", "log_std_init", "output_gain"])
        AGENTS[name](self.plane, seed=0, **{**SMALL[name], "policy_kwargs": {key: mad()}}).learn(1)

    def call_agent(self, mad, rng):
        RL2(
            mad(self.bandits, share=0.1),
            seed=mad(0, None),
            device=mad("cpu", "auto"),
            verbose=mad(0, share=0.1),
            tensorboard_log=mad(None, "logs"),
            **SMALL["rl2"],
        )

    def call_learn(self, mad, rng):
        total = mad(1, share=0.3)
        if type(total) is int and total > 10**4:
            return  # training for long is no fault
        self.agents["rl2"].learn(
            total,
            callback=mad(None, share=0.3),
            log_interval=mad(1, share=0.3),
            tb_log_name=mad(None, "x", share=0.2),
        )

    def call_predict(self, mad, rng):
        agent = self.agents["rl2"]
        good = np.zeros(agent.trial_input.size)
        agent.predict(mad(good), deterministic=mad(False, True))

    def call_save_and_load(self, mad, rng):
        self.agents["rl2"].save("agent")
        RL2.load(mad("agent"), mad(self.bandits, share=0.2), device=mad("cpu"))

    def call_restore(self, mad, rng):
        self.agents["maml"].restore(mad("good", "agent"))

    def call_environment(self, mad, rng):
        env = rng.choice([self.bandits, self.plane]).make_vec(2)
        env.reset(seed=mad(0), options=mad(None))
        env.step(mad(np.array([0, 1]), np.zeros((2, 2), np.float32)))

    def call_set_tasks(self, mad, rng):
        self.plane.make_vec(2).set_tasks(mad(self.plane.sample("train", 2, 0)))

    def call_task(self, mad, rng):
        metarl.Task(mad("mine"), mad({"a": 1.0})).describe()

    def call_trial(self, mad, rng):
        env = metarl.TrialEnv(self.bandits, split=mad("train"), episodes_per_trial=mad(2))
        env.reset(seed=mad(0))

    def call_check(self, mad, rng):
        metarl.check_tasks(mad(self.bandits), num_steps=mad(5, share=0.3), seed=mad(0, share=0.3))

    def call_report(self, mad, rng):
        Report.load(mad("good.npz", "agent.safetensors"))

    def call_report_again(self, mad, rng):
        header, arrays = self.report.to_archive()
        header[rng.choice(["seed", "notes", "split"])] = mad(share=0.5)
        with contextlib.suppress(TypeError, ValueError):  # no array can be made of it
            arrays[rng.choice([*arrays])] = np.array(mad([[1.0]], share=0.5))
        Report.from_archive(header, arrays)

    def call_curve(self, mad, rng):
        self.report.curve(mad(3), confidence=mad(0.9))

    def call_family(self, mad, rng):
        envs.from_gymnasium(
            mad("CartPole-v1"),
            mad({"gravity": metarl.Uniform(5.0, 15.0)}),
            splits=mad(None, {}),
            name=mad(None, "mine"),
            horizon=mad(5),
            episodes_per_trial=mad(2),
        ).make_vec(2).reset(seed=0)
