#pragma once
// Environment variables and folders of the user. Apart from SSL_CERT_FILE and SSL_CERT_DIR, which belong to
// HTTPS in fetch/net, no other file of the program reads the environment.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "library/library.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// The path of this program's executable file.
[[nodiscard]] std::filesystem::path executable_path();

/// This program, called as the helper process of fetch.
[[nodiscard]] std::vector<std::string> worker_command();

/// The user's folders (XDG Base Directory Specification). A folder is empty when no variable names it.
///   data          ../share/sluice beside the program (installed) or share/sluice in the program's folder
///   (build
///                 tree), whichever holds manifests/
///   user_data     $SLUICE_DATA_DIR; Error{usage} when it has no folder manifests/
///   store         $XDG_DATA_HOME/sluice, by default ~/.local/share/sluice
///   trusted_keys  $XDG_CONFIG_HOME/sluice/trusted, by default ~/.config/sluice/trusted
[[nodiscard]] library::Folders library_folders();

/// $XDG_CACHE_HOME/sluice, by default ~/.cache/sluice. Empty without either variable: nothing is cached.
[[nodiscard]] std::filesystem::path cache_folder();

/// $SLUICE_ISA, if set. Error{usage} for an unknown instruction set or one that this CPU lacks.
[[nodiscard]] std::optional<runtime::Isa> forced_isa();

/// $SLUICE_ENGINE, or automatic. Error{usage} for what is unknown.
[[nodiscard]] runtime::MatmulEngine matmul_engine();

/// False when $NO_COLOR is set (no-color.org) or the terminal is dumb.
[[nodiscard]] bool color_allowed();

/// False when the terminal is dumb or unknown ($TERM), so that a line cannot be erased and written anew.
[[nodiscard]] bool cursor_moves_allowed();

}  // namespace sluice::cli
