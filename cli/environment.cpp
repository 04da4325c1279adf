#include "cli/environment.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace sluice::cli {
namespace {

// An empty variable counts as unset (XDG Base Directory Specification).
std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

}  // namespace

std::filesystem::path executable_path() {
  std::error_code code;
  auto path = std::filesystem::read_symlink("/proc/self/exe", code);
  if (code) base::throw_errno("/proc/self/exe", "read", code.value());
  return path;
}

std::optional<std::filesystem::path> data_folder() {
  if (const auto forced = variable("SLUICE_DATA_DIR")) return *forced;
  const auto folder = executable_path().parent_path();
  for (const auto& candidate : {folder / ".." / "share" / "sluice", folder / "share" / "sluice"}) {
    if (std::filesystem::is_directory(candidate / "manifests")) return candidate.lexically_normal();
  }
  return std::nullopt;
}

std::filesystem::path store_folder() {
  // The XDG specification: relative paths in these variables are to be ignored.
  if (const auto data = variable("XDG_DATA_HOME"); data && data->starts_with('/')) {
    return std::filesystem::path(*data) / "sluice";
  }
  if (const auto home = variable("HOME")) return std::filesystem::path(*home) / ".local" / "share" / "sluice";
  throw base::Error(base::ErrorKind::usage,
                    "neither XDG_DATA_HOME nor HOME is set: there is no place for the model store");
}

std::filesystem::path cache_folder() {
  if (const auto cache = variable("XDG_CACHE_HOME"); cache && cache->starts_with('/')) {
    return std::filesystem::path(*cache) / "sluice";
  }
  if (const auto home = variable("HOME")) return std::filesystem::path(*home) / ".cache" / "sluice";
  return {};
}

std::filesystem::path config_folder() {
  if (const auto config = variable("XDG_CONFIG_HOME"); config && config->starts_with('/')) {
    return std::filesystem::path(*config) / "sluice";
  }
  if (const auto home = variable("HOME")) return std::filesystem::path(*home) / ".config" / "sluice";
  return {};
}

std::optional<runtime::Isa> forced_isa() {
  const auto text = variable("SLUICE_ISA");
  if (!text) return std::nullopt;
  const auto isa = runtime::parse_isa(*text);
  if (!isa) {
    throw base::Error(base::ErrorKind::usage,
                      "SLUICE_ISA is '" + *text + "', expected avx512, avxvnni, avx2 or generic");
  }
  if (!runtime::is_supported(*isa))
    throw base::Error(base::ErrorKind::usage, "SLUICE_ISA is " + *text + ", which this CPU has not");
  return isa;
}

bool color_allowed() { return !variable("NO_COLOR") && variable("TERM").value_or("dumb") != "dumb"; }

}  // namespace sluice::cli
