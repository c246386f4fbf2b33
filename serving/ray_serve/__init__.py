"""Ray Serve: one deployment a model, our core inside each replica, TensorFlow Serving's protocol at Ray's proxies."""
