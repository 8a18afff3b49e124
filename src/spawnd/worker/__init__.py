"""The worker: claims agents and runs them. It knows the record only through ``contracts.control_plane``."""
