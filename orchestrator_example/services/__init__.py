"""The other services of the demo, each a Component that `text2image-node serve` serves."""
