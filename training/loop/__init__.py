"""The training loop: schedule, checkpoints, devices, hosts and run folders."""
