"""When and where a request runs, how requests merge, and when the queue is full."""
