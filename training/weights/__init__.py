"""Read and write weights in files."""
