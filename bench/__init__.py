"""The benchmark: this service beside its baselines, in one run on one machine.

Absolute figures depend on the machine; the ratios are what counts.
"""
