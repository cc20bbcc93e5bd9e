"""What an agent must offer to be evaluated, and what evaluating it gives."""
