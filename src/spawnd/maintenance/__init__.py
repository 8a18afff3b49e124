"""Small loops that keep the record moving. Each is one file and safe to run in any number of processes."""
