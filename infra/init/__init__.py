"""`make init`: a clone becomes one's own project."""
