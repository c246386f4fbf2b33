"""Routes, schemas, errors, access control, metrics and documents of the API."""
