"""Measures saliency maps against ground-truth masks."""
