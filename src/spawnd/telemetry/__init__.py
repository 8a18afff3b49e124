"""What leaves the system for people and machines to watch; and what must never leave it."""
