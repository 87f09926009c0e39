"""Bayesian linear regression on the features of a SIREN."""
