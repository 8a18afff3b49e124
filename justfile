# Every task of the workshop. `just` lists them; each is one line that you can also type.

_:
    @just --list --unsorted

# the main job on a scratch repository, with scripted agents
demo:
    ./scripts/demo

# the tests; arguments go to pytest
test *args:
    ./scripts/test {{args}}

# what CI runs
check:
    ./.ci/run

# ruff: mend and format
fix:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# ruff, mypy and the floors
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/lint-imports

# compile requirements/*.txt from pyproject.toml; --upgrade takes the newest that fit
lock *args:
    ./scripts/lock {{args}}

# the reference pages, made from the schema, the commands and the settings
reference:
    .venv/bin/python scripts/reference.py

# the hot paths beside their baselines
bench *args:
    .venv/bin/python bench/hot_paths.py {{args}}

# how long the command line takes to start
bench-cli:
    .venv/bin/python bench/cli_startup.py
