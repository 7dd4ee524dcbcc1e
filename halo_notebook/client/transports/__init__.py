"""What carries a message: the network, a page's fetch, aiohttp."""
