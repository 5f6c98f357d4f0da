"""Measures saliency maps against drawn masks."""
