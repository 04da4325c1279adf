#include "cli/environment.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// An empty variable counts as unset (XDG Base Directory Specification).
std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

/// $NAME/sluice, else ~/DEFAULT/sluice, else nothing. The specification says to ignore relative paths in
/// $NAME.
fs::path user_folder(const char* name, const char* default_below_home) {
  if (const auto folder = variable(name); folder && folder->starts_with('/'))
    return fs::path(*folder) / "sluice";
  if (const auto home = variable("HOME")) return fs::path(*home) / default_below_home / "sluice";
  return {};
}

/// Finds manifests/ from the place of the program, so that an installation can be moved: PREFIX/bin and
/// PREFIX/share/sluice when installed, and share/ beside the program in a build tree. Empty when there is
/// none; then the program brings no release.
fs::path data_folder() {
  const auto folder = executable_path().parent_path();
  for (const auto& candidate : {folder / ".." / "share" / "sluice", folder / "share" / "sluice"}) {
    if (fs::is_directory(candidate / "manifests")) return candidate.lexically_normal();
  }
  return {};
}

/// $SLUICE_DATA_DIR, whose releases come in addition to the program's.
fs::path user_data_folder() {
  const auto named = variable("SLUICE_DATA_DIR");
  if (!named) return {};
  std::error_code unreadable;
  if (fs::is_directory(fs::path(*named) / "manifests", unreadable)) return *named;
  const bool is_manifests = fs::path(*named).lexically_normal().filename() == "manifests";
  throw base::Error(base::ErrorKind::usage, "SLUICE_DATA_DIR is '" + *named +
                                                "', which has no folder 'manifests'" +
                                                (is_manifests ? "; name the folder that holds it" : ""));
}

}  // namespace

fs::path executable_path() {
  std::error_code code;
  // argv[0] may be relative or anything else; the kernel's link is the file that runs (proc(5)).
  auto path = fs::read_symlink("/proc/self/exe", code);
  if (code) base::throw_errno("/proc/self/exe", "read", code.value());
  return path;
}

/// This program itself is the worker, so both always speak the same version of the protocol.
std::vector<std::string> worker_command() { return {executable_path().string(), "fetch-worker"}; }

library::Folders library_folders() {
  const fs::path config = user_folder("XDG_CONFIG_HOME", ".config");
  return {.data = data_folder(),
          .store = user_folder("XDG_DATA_HOME", ".local/share"),
          .trusted_keys = config.empty() ? fs::path() : config / "trusted",
          .user_data = user_data_folder()};
}

fs::path cache_folder() { return user_folder("XDG_CACHE_HOME", ".cache"); }

std::optional<runtime::Isa> forced_isa() {
  const auto text = variable("SLUICE_ISA");
  if (!text) return std::nullopt;
  const auto isa = runtime::parse_isa(*text);
  if (!isa) {
    throw base::Error(base::ErrorKind::usage,
                      "SLUICE_ISA is '" + *text + "', expected avx512, avxvnni, avx2 or generic");
  }
  // The check is made here, because the kernels would end the process with an illegal instruction.
  if (!runtime::is_supported(*isa))
    throw base::Error(base::ErrorKind::usage, "SLUICE_ISA is " + *text + ", which this CPU has not");
  return isa;
}

runtime::MatmulEngine matmul_engine() {
  const auto text = variable("SLUICE_ENGINE");
  if (!text) return runtime::MatmulEngine::automatic;
  const auto engine = runtime::parse_matmul_engine(*text);
  if (!engine)
    throw base::Error(base::ErrorKind::usage,
                      "SLUICE_ENGINE is '" + *text + "', expected auto, own or onednn");
  return *engine;
}

bool color_allowed() { return !variable("NO_COLOR") && cursor_moves_allowed(); }

bool cursor_moves_allowed() { return variable("TERM").value_or("dumb") != "dumb"; }

}  // namespace sluice::cli
