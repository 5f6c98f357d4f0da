"""Encoders with ImageNet's weights."""
