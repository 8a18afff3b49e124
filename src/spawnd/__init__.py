"""spawnd: a durable, self-hosted orchestrator for fleets of AI coding agents."""

__version__ = "0.1.0"
