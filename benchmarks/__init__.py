"""Measurements: paired, interleaved, reported as ratios of one run."""
