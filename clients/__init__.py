"""Ask a model server: `from ladle import Client, AsyncClient`. Never imports TensorFlow, nor anything of ours."""
