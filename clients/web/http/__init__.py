"""Routes, schemas, the OpenAPI document, errors and access control of the gateway."""
