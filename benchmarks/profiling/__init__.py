"""Where the time of a request goes inside our own code."""
