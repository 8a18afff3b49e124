"""Numbered, forward-only migrations. The SQL stands in ``NNNN_*.sql``; Alembic orders and runs it."""
