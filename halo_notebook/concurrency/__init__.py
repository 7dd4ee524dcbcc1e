"""How synchronous code waits for asynchronous code."""
