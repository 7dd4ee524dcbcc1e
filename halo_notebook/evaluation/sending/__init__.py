"""Messages sent at a pace, each once."""
