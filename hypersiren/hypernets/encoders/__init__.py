"""From a context to a latent or tokens."""
