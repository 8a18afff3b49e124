"""Documents that cross a process boundary: what `--json` prints today and HTTP serves. One file per noun."""
