"""Requests as people send them: photographs, large tensors, many rows, text, masks, pictures, many models, TLS.

python -m benchmarks.real --help
"""
