# Sourced by the scripts here, with $root set to the checkout: finds a Python and sets .venv up. POSIX sh.

# A closed standard input would lend its number to the next file that is opened.
if ! { : <&0; } 2>/dev/null; then
    exec </dev/null
fi

# A Python 3.11 or newer. Candidates are run, not only found: version managers leave shims that do not work.
find_python() {
    for candidate in ${SPAWND_PYTHON:-} python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    cat >&2 <<'MESSAGE'
spawnd needs Python 3.11 or newer, and none was found as python3.13, python3.12, python3.11 or python3.
  Debian 12 or newer, Ubuntu 24.04 or newer:  apt-get install python3 python3-venv
  Fedora:                                     dnf install python3
  macOS with Homebrew:                        brew install python
If it is installed under another name, say which: SPAWND_PYTHON=/path/to/python3 (no spaces)
MESSAGE
    return 1
}

# set_up SET...: make .venv hold the locked packages of these sets (base, dev, agents) and the project.
set_up() {
    python=$(find_python) || exit 1
    "$python" -I "$root/scripts/setup.py" "$@" || exit 1
}
