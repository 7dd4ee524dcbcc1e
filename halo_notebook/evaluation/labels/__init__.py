"""What people say about replies, and how well a check agrees with them."""
