"""GTpick: network, assignment, losses, simulator and training (PyTorch)."""
