#pragma once
// Finds the pickles in a file and reports what they would execute: a bare pickle, a sequence of pickles as
// torch wrote them before version 1.6, or the *.pkl members of a zip file.

#include <filesystem>
#include <string>
#include <vector>

#include "format/pickle_scan.h"

namespace sluice::format {

struct ScannedPickle {
  std::string name;  ///< of the zip member; empty outside of a zip file
  PickleScan scan;
};

/// Empty for a file without pickles. No content is an Error, only a file that cannot be read.
[[nodiscard]] std::vector<ScannedPickle> scan_pickles(const std::filesystem::path& path);

/// "loaded with Python, data.pkl would call os.system at offset 23 with ('id')"; empty when none of the
/// pickles would execute anything.
[[nodiscard]] std::string to_sentence(const std::vector<ScannedPickle>& pickles);

}  // namespace sluice::format
