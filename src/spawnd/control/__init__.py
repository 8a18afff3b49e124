"""What may be asked of the system. Functions over the store; no concrete backend is named here."""
