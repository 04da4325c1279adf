#pragma once
// Files that hold more than data: what a pickle in them would execute. That bytes are the released bytes says
// nothing about it.

#include <filesystem>
#include <string>
#include <vector>

#include "verify/verify.h"

namespace sluice::cli {

/// A sentence a file that would execute something when it is loaded with Python: `path` itself, or the files
/// below it that `report` has and does not call damaged.
[[nodiscard]] std::vector<std::string> find_acting_pickles(const std::filesystem::path& path,
                                                           const verify::Report& report);

/// Error{malformed} with all that find_acting_pickles found; nothing when that is nothing.
void refuse_acting_pickles(const std::vector<std::string>& found);

}  // namespace sluice::cli
