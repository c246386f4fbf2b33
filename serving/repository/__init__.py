"""Which versions are on disk, which of them to serve, and how they load and unload."""
