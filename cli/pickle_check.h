#pragma once
// Finds files with pickles that would execute something when Python loads them. Verifying cannot find them: a
// malicious file can be exactly the released one.

#include <filesystem>
#include <string>
#include <vector>

#include "verify/verify.h"

namespace sluice::cli {

/// One sentence for each file that would execute something: `path` itself, or the files below it that the
/// report lists as undamaged.
[[nodiscard]] std::vector<std::string> find_acting_pickles(const std::filesystem::path& path,
                                                           const verify::Report& report);

/// Error{malformed} with all these sentences; does nothing when there are none.
void refuse_acting_pickles(const std::vector<std::string>& found);

}  // namespace sluice::cli
