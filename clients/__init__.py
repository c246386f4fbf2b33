"""Ask a model server: `from clients.client import Client`. Never imports TensorFlow, nor anything of ours."""
