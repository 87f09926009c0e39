"""What fits a prediction to its context inside the model."""
