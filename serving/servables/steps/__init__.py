"""What runs before and after a graph, in NumPy: image bytes, text, noise, labels."""
