"""Devices, processes and memory: what the machine computes with."""
