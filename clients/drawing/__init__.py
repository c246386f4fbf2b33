"""Pictures of answers, for files and terminals."""
