"""CUDA kernels of operators that lower floors declare; `register` tells PyTorch about them.

An operator (``nas::...``) stands with its CPU reference, its shapes and its gradients on the floor that uses it; here
are its CUDA sources and how they are launched. Whoever puts a network on a GPU calls `register` first. Where there is
no compiler, one line in the log says so and PyTorch's own operations are used.
"""

from workers.kernels.registration import register

__all__ = ["register"]
