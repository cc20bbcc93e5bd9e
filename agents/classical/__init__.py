"""Classical bandit and MDP algorithms and searches: references that need no training."""
