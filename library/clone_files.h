#pragma once
// Takes the files of a release from another folder of this machine instead of the network.

#include <filesystem>

#include "format/release_layout.h"
#include "library/context.h"

namespace sluice::library {

/// Gives `to` each file of the layout that it lacks and that `from` has with the right length: as a reflink
/// where the file system can, else as a hard link, else as a copy. Both folders hold <torrent name>. Returns
/// the bytes of these files. The files are not verified here: fetch hashes all that its journal does not
/// prove. Existing files stay as they are, and symbolic links below `to` are Error{io}.
std::uint64_t clone_files(const format::ReleaseLayout& layout, const std::filesystem::path& from,
                          const std::filesystem::path& to, const Context& context);

}  // namespace sluice::library
