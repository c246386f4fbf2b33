"""One loaded version: its signatures, its warm-up and the checks on its inputs."""
