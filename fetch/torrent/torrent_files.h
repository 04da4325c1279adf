#pragma once
// Reads the file list of an info dictionary: "files" in v1, "file tree" in v2. A hybrid torrent has both, and
// they must describe the same files.

#include <vector>

#include "fetch/torrent/name_cleaner.h"
#include "fetch/torrent/torrent_fields.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// Fills `single_file` and `files` of a layout that has its name and piece length. `has_v1` and `has_v2` say
/// which lists the info dictionary has. Names pass through `names`.
void read_files(const Fields& info, bool has_v1, bool has_v2, NameCleaner& names,
                format::ReleaseLayout& layout);

/// The length of the v1 stream, pad files included. Error{malformed} when it is zero or too large.
[[nodiscard]] std::uint64_t stream_bytes(const format::ReleaseLayout& layout, std::string_view subject);

}  // namespace sluice::fetch
