"""The server's dealings with the operating system and the event loop."""
