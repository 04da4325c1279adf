#pragma once
// Recognises lists of checksums by the names under which they are published.

#include <string>
#include <string_view>

namespace sluice::library {

/// True for the names of lists of any files, whatever their case: SHA256SUMS, sha256sums.txt, checksums.txt,
/// CHECKSUM, md5sum.txt, ..., for such a word behind another name (model.sha256, v2_checksums.txt), and for
/// RELEASE.
[[nodiscard]] bool is_list_name(std::string_view file_name);

/// The name that stands before such a word: "model.bin" for "model.bin.sha256"; empty when there is none.
[[nodiscard]] std::string listed_name(std::string_view file_name);

}  // namespace sluice::library
