"""What is sent: models and requests to them, in each protocol; wrk and h2load make the load."""
