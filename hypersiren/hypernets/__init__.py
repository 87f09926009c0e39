"""From what is known of a signal to the weights of its field (paper, section 4.4)."""
