"""Networks that pass messages along the graphs of architectures: what `predictors.graph_network` is made of."""
