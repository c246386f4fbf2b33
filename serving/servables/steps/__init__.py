"""What runs before and after a graph: image bytes, text, noise and labels, in NumPy."""
