"""Tasks on waves: Helmholtz's equation, the wave equation, inversion."""
