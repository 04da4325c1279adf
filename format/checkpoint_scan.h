#pragma once
// The pickles in a file, and what they would do: a bare pickle, several one after another as torch wrote them
// before version 1.6, or the *.pkl members of a zip file.

#include <filesystem>
#include <string>
#include <vector>

#include "format/pickle_scan.h"

namespace sluice::format {

struct ScannedPickle {
  std::string name;  ///< of the zip member; else empty
  PickleScan scan;
};

/// Nothing for a file without pickles. Bytes of every kind are possible and no Error; a file that cannot be
/// read is one.
[[nodiscard]] std::vector<ScannedPickle> scan_pickles(const std::filesystem::path& path);

/// "loaded with Python, data.pkl would call os.system at offset 23 with ('id')"; empty when none of them does
/// anything.
[[nodiscard]] std::string to_sentence(const std::vector<ScannedPickle>& pickles);

}  // namespace sluice::format
