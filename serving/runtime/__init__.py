"""What the server needs of the operating system and the event loop."""
