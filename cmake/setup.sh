# Shared by ./try and ./check: installs missing Debian packages, configures and builds. Sourced, not run.

# packages SECTION...: the names in packages.txt that stand under these sections.
packages() {
  local section='' line wanted=" $* "
  while IFS= read -r line; do
    if [[ $line =~ ^#\ \[([a-z]+)\] ]]; then section=${BASH_REMATCH[1]}; fi
    line=${line%%#*}
    line=${line//[[:space:]]/}
    if [[ -n $line && $wanted == *" $section "* ]]; then echo "$line"; fi
  done < packages.txt
}

# missing_packages SECTION...: those of them that are not installed.
missing_packages() {
  local name
  for name in $(packages "$@"); do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null || true) == installed ]] || echo "$name"
  done
}

# require_debian: everything here is tested on Debian 12 on x86-64 only.
require_debian() {
  if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
    echo "$0 installs packages with apt-get and is made for Debian 12; see README.md for a build by hand." >&2
    exit 1
  fi
  if [[ $(uname -m) != x86_64 ]]; then
    echo "Sluice runs on x86-64 only; this machine is $(uname -m)." >&2
    exit 1
  fi
}

# require_own_build: a build folder remembers absolute paths. In a folder that was moved or copied it would build
# the sources at the old place.
require_own_build() {
  if [[ ! -f build/CMakeCache.txt ]]; then return; fi
  local source
  source=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' build/CMakeCache.txt)
  if [[ ! $source -ef . ]]; then
    echo "build/ was made for the sources in $source, not for those in $PWD: the folder was moved or copied." >&2
    echo "Remove build/ and start again:  rm -rf build && $0" >&2
    exit 1
  fi
}

# as_root COMMAND...: through sudo unless this is root already.
as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# require_root_for PACKAGE...: says what to do by hand where there is neither root nor sudo.
require_root_for() {
  if ((EUID == 0)) || command -v sudo > /dev/null; then return; fi
  echo "Packages are missing and there is no sudo. Please run as root:" >&2
  echo "  apt-get update && apt-get install -y --no-install-recommends $*" >&2
  exit 1
}

# install_packages SECTION...: does nothing where nothing is missing.
install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  if ((${#missing[@]} == 0)); then return; fi
  require_root_for "${missing[@]}"
  echo "Installing Debian packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

policy=/usr/sbin/policy-rc.d
policy_mark="# made by the ./check of Sluice, which removes it again"

allow_daemons() {
  if grep -qsF "$policy_mark" "$policy"; then as_root rm -f "$policy"; fi
}

# install_stopped_daemons SECTION...: the same for packages of daemons, which Debian would start at once and at
# every boot. policy-rc.d is asked before a daemon is started; the machine's own one, if there is one, decides alone.
install_stopped_daemons() {
  local missing name
  mapfile -t missing < <(missing_packages "$@")
  if ((${#missing[@]} == 0)); then return; fi
  require_root_for "${missing[@]}"
  echo "The tests talk to other BitTorrent programs. These packages contain daemons, which are not started, and"
  echo "not enabled at boot: ${missing[*]}"
  trap allow_daemons EXIT
  if [[ ! -e $policy && ! -L $policy ]]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" | as_root tee "$policy" > /dev/null
    as_root chmod 755 "$policy"
  fi
  install_packages "$@"
  allow_daemons
  trap - EXIT
  if ! command -v systemctl > /dev/null; then return; fi
  for name in "${missing[@]}"; do
    if [[ -f /lib/systemd/system/$name.service ]]; then as_root systemctl --quiet disable "$name.service"; fi
  done
}

# configure ON|OFF: the release preset in build/, with or without the tests; what has been built stays.
configure() {
  local launcher=() testing=$1
  if command -v ccache > /dev/null; then launcher=(-D CMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  if [[ ! -f build/build.ninja ]]; then
    cmake --preset release "${launcher[@]}" -D BUILD_TESTING="$testing"
  elif [[ $testing == ON ]] && ! grep -q '^BUILD_TESTING:BOOL=ON$' build/CMakeCache.txt; then
    cmake --preset release -D BUILD_TESTING=ON
  fi
}

# build TARGET...: Ninja configures again by itself when a CMakeLists.txt has changed.
build() {
  cmake --build build --target "$@"
}
