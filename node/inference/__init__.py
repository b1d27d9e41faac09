"""Batch to images: the only package that knows torch, Diffusers and Transformers.

Importing this package, or `node.inference.component`, does not import torch. Modules that do
(`engine` and what it imports) are imported by the inference thread alone: see `thread`.
"""
