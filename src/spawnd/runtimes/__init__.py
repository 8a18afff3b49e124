"""Adapters that drive agent programs, one file each. The contract is ``contracts.runtime``.

Importing this package imports no vendor's code: a missing extra breaks its own runtime and no other.
"""
