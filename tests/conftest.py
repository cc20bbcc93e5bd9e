"""Settings of all tests."""

import torch

# Toy networks gain nothing from threads, and two test runs side by side lose much.
torch.set_num_threads(1)
