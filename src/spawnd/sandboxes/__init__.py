"""Ways to open rooms. The contract is ``contracts.sandbox``; the table of them is the entry points' group."""
