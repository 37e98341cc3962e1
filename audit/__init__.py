"""A second program over the same topics: proves published numbers, mends them, and replays what could not be read."""
