"""The parts of the training program of the embedded model; the command itself is in `train_embedded.py` beside."""
