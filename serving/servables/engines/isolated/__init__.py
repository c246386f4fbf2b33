"""TensorFlow in a process of its own: its 600 MB end with the last version, and its crashes end no server."""
