"""What a hostile or an overloaded client does to a running server, as numbers."""
