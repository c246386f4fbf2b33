"""The offline half: data sets, the training loop, evaluation and export."""
