"""When and where a request runs, which requests merge, and when the queue is full."""
