"""Building blocks of networks, one idea per file; every one is a plain `torch.nn.Module`.

Conventions: images are ``batch x channels x height x width``, tables ``batch x features``. No block works in place on
its input, since other blocks may read it. A convolution of stride s gives ceil(size / s) rows and columns.
"""
