"""Carriers of hints: LISTEN/NOTIFY here, others beside it. The contract is ``contracts.bus``."""
