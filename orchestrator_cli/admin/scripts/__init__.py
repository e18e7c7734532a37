"""A folder of the user's scripts, read without running any of it, and proposed as processes."""
