"""The Open Inference Protocol over REST: requests read, models run and described, answers written."""
