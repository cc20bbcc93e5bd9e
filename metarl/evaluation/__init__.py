"""The interface of an agent, and its evaluation."""
