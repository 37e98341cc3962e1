"""What others would use for the same windows, each written well, as a program of its own: told by its environment, says `read N`."""
