"""A loaded version: its signatures, its engines, its warm-up requests, and the checks on its inputs."""
