"""The online half: serves SavedModels and their ONNX graphs as TensorFlow Serving does."""
