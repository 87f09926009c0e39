"""From the context of a signal to the weights of its field (paper, section 4.4)."""
