"""`Client` and `AsyncClient`: a model server asked by task."""
