"""Structured prediction and structure discovery for images, in JAX and Flax."""

__version__ = "0.1.0"
