#pragma once
// Finds the 16 KiB blocks that are wrong in a damaged piece, with the leaf file that was published with the
// torrent. Reads only pieces that were found wrong.

#include <filesystem>
#include <vector>

#include "verify/file_findings.h"

namespace sluice::verify {

/// Narrows FileFindings::bad of files whose damage a piece layer located. Leaves whose tree does not have the
/// torrent's hash of their piece are not used; the piece then stays wrong as a whole.
void locate_blocks(const std::filesystem::path& folder, const Expectations& expectations,
                   const std::vector<ExpectedFile>& expected_files, std::vector<FileFindings>& findings);

}  // namespace sluice::verify
