"""The verbs of the API, POST /api/v1/models/<name>:<verb>: a module for each kind of input."""
