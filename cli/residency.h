#pragma once
// How `run` and `bench` tell by which way the experts' bytes came.

#include <string>

#include "format/json.h"
#include "runtime/runtime.h"

namespace sluice::cli {

[[nodiscard]] format::Json residency_json(const runtime::ResidencyStats& stats);
/// One line for people, without its end.
[[nodiscard]] std::string residency_line(const runtime::ResidencyStats& stats);

}  // namespace sluice::cli
