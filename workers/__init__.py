"""The hands: they claim trials, train and measure."""
