"""Training networks in plain PyTorch: see `workers.training.loop.train`."""
