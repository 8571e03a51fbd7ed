"""Zero-cost proxies: scores of an untrained network from one batch; a larger score promises a better network.

Every proxy is a function ``(network, batch, loss) -> float`` in a file of its own; `catalogue` has their names. What
all of them promise:

* They work on any `torch.nn.Module` that takes ``b x ...`` and returns ``b x outputs``, on the device it is on.
* The network is as it was afterwards: a proxy works on a copy (`proxy`). No global generator is touched.
* Dropout is off: masks would be scored in the network's place.
* Equal network, batch (and its seed), loss and thread count give an equal score.
* A score is a finite number, or minus infinity where the proxy's own formula says that nothing is worse. Everything
  else (NaN, a formula that means nothing for this network or batch, a network that fails) is a `ProxyError` that names
  the proxy.

Letters in the docstrings: b examples in the batch, w weights (parameters of two or more axes, see `weights`), g the
gradient of the loss with respect to them. What a proxy takes is counted in forward (F) and backward (B) passes of the
whole batch.

Nothing is imported here, so that the names are there without torch.
"""
