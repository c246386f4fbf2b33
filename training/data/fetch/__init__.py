"""Where data come from: the cache, packages and original downloads."""
