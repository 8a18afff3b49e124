"""The steps of an attempt, one file each, in the order of ``worker.attempt``."""
