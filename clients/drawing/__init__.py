"""Pictures of results, for files and terminals."""
