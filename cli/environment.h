#pragma once
// What the program learns from around it. Only cli reads the environment, and only here.

#include <filesystem>
#include <optional>

#include "runtime/runtime.h"

namespace sluice::cli {

/// This program's file.
[[nodiscard]] std::filesystem::path executable_path();

/// The folder that holds manifests/: $SLUICE_DATA_DIR, ../share/sluice beside the program (installed) or
/// share/sluice in its folder (build tree). Nothing when none of them is there.
[[nodiscard]] std::optional<std::filesystem::path> data_folder();

/// $XDG_DATA_HOME/sluice, by default ~/.local/share/sluice. Error{usage} without either variable.
[[nodiscard]] std::filesystem::path store_folder();

/// $XDG_CACHE_HOME/sluice, by default ~/.cache/sluice. Empty without either variable: nothing is cached.
[[nodiscard]] std::filesystem::path cache_folder();

/// $XDG_CONFIG_HOME/sluice, by default ~/.config/sluice. Empty without either variable.
[[nodiscard]] std::filesystem::path config_folder();

/// $SLUICE_ISA, if set. Error{usage} for what is unknown or what this CPU cannot execute.
[[nodiscard]] std::optional<runtime::Isa> forced_isa();

/// False when $NO_COLOR is set (no-color.org) or the terminal is dumb.
[[nodiscard]] bool color_allowed();

}  // namespace sluice::cli
