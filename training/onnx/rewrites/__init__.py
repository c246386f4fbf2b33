"""Whole signatures rewritten before or after their conversion: calls inlined, checks as outputs, kernels that exist."""
