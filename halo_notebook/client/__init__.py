"""One message to an agent, one streamed reply."""
