#pragma once
// From the piece to the block: which 16 KiB of a damaged piece are wrong, by the leaves that lie beside a
// torrent. Only pieces that were found wrong are read again.

#include <filesystem>
#include <vector>

#include "verify/evidence.h"

namespace sluice::verify {

/// Narrows Evidence::bad of files that the piece layer placed. Leaves that do not make the torrent's hash of
/// their piece are not believed: the piece then stays wrong as a whole.
void refine(const std::filesystem::path& folder, const Expectations& expectations,
            const std::vector<Promise>& promises, std::vector<Evidence>& evidence);

}  // namespace sluice::verify
