#!/bin/sh
# What `make` asks of a machine before anything is installed, since there may be no Python to ask. Changes nothing.
# machine.sh PYTHON: silent and 0 when the packages can be installed; else each obstacle in a sentence, and 1.
set -u
python=$1
needed_mb=2000 # 1.1 GB of packages, what pip unpacks on the way, and the first data
oldest_glibc=31 # 2.31: Debian 11, Ubuntu 20.04; Envoy's package is built for it
status=0

tell() {
  printf '%s\n' "$*" >&2
  status=1
}

newer() { # another Python of this machine that is new enough
  for name in python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
      printf ' %s is here: make run PYTHON=%s' "$name" "$name"
      return
    fi
  done
  printf ' Debian and Ubuntu have it in the packages python3 and python3-venv, python.org for everybody.'
}

look_at_python() {
  if ! command -v "$python" >/dev/null; then
    tell "Python 3.11 or newer is needed, and there is no $python.$(newer)"
  elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    version=$("$python" -c 'import platform; print(platform.python_version())')
    tell "Python 3.11 or newer is needed; $python is $version.$(newer)"
  elif ! "$python" -c 'import sys; sys.exit(sys.maxsize < 2**32)'; then
    tell "$python is a 32-bit program; the packages need a 64-bit Python."
  elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    tell "$python cannot make virtual environments: on Debian and Ubuntu, \`sudo apt-get install python$version-venv\`."
  fi
}

look_at_the_system() {
  case $(uname -m) in
    x86_64 | amd64 | aarch64 | arm64) ;;
    *) tell "PostgreSQL and Envoy come as packages for x86_64 and aarch64; this machine is $(uname -m)." ;;
  esac
  if [ "$(uname -s)" != Linux ]; then
    printf '%s\n' "This is $(uname -s); the stack is tested on Linux (a container, a virtual machine or WSL 2 will do)." >&2
  elif ! glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null); then
    tell "This Linux has no glibc (Alpine?); the packages of PostgreSQL and Envoy need it, 2.$oldest_glibc or newer."
  elif [ "${glibc##*.}" -lt "$oldest_glibc" ]; then
    tell "$glibc is too old: the packages need 2.$oldest_glibc or newer (Debian 11, Ubuntu 20.04, Fedora 32, RHEL 9)."
  fi
}

look_at_the_folder() {
  here=$(pwd)
  case $here in
    *:*) tell "The folder $here has a colon in its name, which no virtual environment can have: rename it." ;;
  esac
  if ! [ -w . ]; then
    tell "The folder $here cannot be written by $(id -un 2>/dev/null || id -u): the packages and the data go into it."
    return
  fi
  free_mb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
  if [ "${free_mb:-$needed_mb}" -lt "$needed_mb" ]; then
    tell "Only $free_mb MB are free at $here; the packages and the first data need $needed_mb MB."
  fi
}

look_at_python
look_at_the_system
look_at_the_folder
exit "$status"
