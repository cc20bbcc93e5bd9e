"""Classical bandit and MDP algorithms and searches: baselines that need no training."""
