"""What is done with sets of signals: predict a field from part of a signal, train, evaluate, complete."""
