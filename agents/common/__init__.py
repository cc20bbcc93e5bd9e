"""Algorithm code that agents share: losses, PPO on trials, memories, action heads, vision."""
