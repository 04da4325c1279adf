#pragma once
// Finds the pickles in a file and reports what they would execute: a bare pickle, a sequence of pickles as
// torch wrote them before version 1.6, or the *.pkl members of a zip file, also of one that only lenient
// readers open.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "format/pickle_scan.h"

namespace sluice::format {

struct ScannedPickle {
  std::string name;  ///< of the zip member; empty outside of a zip file
  PickleScan scan;
};

/// What to do with a zip file that torch would not have written.
enum class PickleSearch : std::uint8_t {
  directory,   ///< believe its directory, as far as it can be read: enough to explain a refusal
  whole_file,  ///< read the whole file for members that any reader may find
};

/// Empty for a file without pickles. No content is an Error, only a file that cannot be read.
[[nodiscard]] std::vector<ScannedPickle> scan_pickles(const std::filesystem::path& path, PickleSearch search);

/// "loaded with Python, data.pkl would call os.system at offset 23 with ('id')"; empty when none of the
/// pickles would execute anything.
[[nodiscard]] std::string to_sentence(const std::vector<ScannedPickle>& pickles);

/// Says which pickle was not scanned to its end, and which limit ended the scan; empty when there is none.
[[nodiscard]] std::string unscanned_sentence(const std::vector<ScannedPickle>& pickles);

}  // namespace sluice::format
