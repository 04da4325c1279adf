#pragma once
// Whether --quant says what a model has.

#include <filesystem>
#include <string>

#include "cli/options.h"

namespace sluice::cli {

/// Error{usage} when --quant was given and the container at `path` has weights of another type: a model that
/// exists as a .sluice file is run as it is.
void require_quant(const std::filesystem::path& path, const Options& options, const std::string& quant);

}  // namespace sluice::cli
