"""Pictures of a run, and the pages of results."""
