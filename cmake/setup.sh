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

# install_packages SECTION...: asks dpkg first, so that nothing is done where nothing is missing.
install_packages() {
  local missing=() name sudo=()
  for name in $(packages "$@"); do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null || true) == installed ]] || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then return; fi
  if ((EUID != 0)); then
    if ! command -v sudo > /dev/null; then
      echo "Packages are missing and there is no sudo. Please run as root:" >&2
      echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
      exit 1
    fi
    sudo=(sudo)
  fi
  echo "Installing ${missing[*]}"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# build TARGET...: the release preset in build/; quick when there is nothing to do.
build() {
  # Ninja configures again by itself when a CMakeLists.txt has changed.
  if [[ ! -f build/build.ninja ]]; then
    local launcher=()
    if command -v ccache > /dev/null; then launcher=(-D CMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
    cmake --preset release "${launcher[@]}"
  fi
  cmake --build build --target "$@"
}
