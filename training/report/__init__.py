"""Pictures of a run and pages of results."""
