"""Several processes behind one port: a supervisor, its workers, and the channel between them."""
