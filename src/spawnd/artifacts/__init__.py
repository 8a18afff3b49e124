"""Stores of artifact bytes. The contract is ``contracts.artifacts``."""
