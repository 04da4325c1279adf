#pragma once
// Reports where the experts' weights were during a run: mapped, kept in memory or read from the disk.

#include <string>

#include "format/json.h"
#include "runtime/runtime.h"

namespace sluice::cli {

[[nodiscard]] format::Json residency_json(const runtime::ResidencyStats& stats);
/// One line for people, without a newline.
[[nodiscard]] std::string residency_line(const runtime::ResidencyStats& stats);

}  // namespace sluice::cli
