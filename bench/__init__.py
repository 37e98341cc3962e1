"""Measurements, as ratios within one run: what a figure is worth on another machine is its distance from its neighbour."""
