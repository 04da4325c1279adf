#pragma once
// Reports where the experts' weights were during a run: mapped, kept in memory or read from the disk.

#include <string>

#include "cli/console.h"
#include "format/json.h"
#include "runtime/runtime.h"

namespace sluice::cli {

[[nodiscard]] format::Json residency_json(const runtime::ResidencyStats& stats);
/// One line for people, without a newline.
/// Warns when --memory is too low to have an effect.
void warn_of_memory(const runtime::ResidencyStats& stats, Console& console);

[[nodiscard]] std::string residency_line(const runtime::ResidencyStats& stats);

}  // namespace sluice::cli
