#pragma once
// The file list of an info dictionary: v1's "files", v2's "file tree", and for a hybrid torrent both, which
// must say the same.

#include <vector>

#include "fetch/torrent/torrent_fields.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// Fills single_file and files. `layout` has name and piece_bytes; `has_v1` and `has_v2` say which lists
/// the info dictionary has.
void read_files(const Fields& info, bool has_v1, bool has_v2, format::ReleaseLayout& layout);

/// The length of the v1 stream, pad files included. Error{malformed} when it is zero or too large.
[[nodiscard]] std::uint64_t stream_bytes(const format::ReleaseLayout& layout, std::string_view subject);

}  // namespace sluice::fetch
