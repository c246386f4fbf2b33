"""`ladle optimize`: a version whose graphs are faster on this machine and as good, or none."""
