"""Bring up what a node needs around it: a broker on this machine, and the demo."""
