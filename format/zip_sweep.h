#pragma once
// Finds what a reader that is not strict may take for the members of a zip file. Python's zipfile and torch
// open files that read_zip_index() refuses: with compressed members, a comment, bytes in front, flags, or a
// directory that contradicts the local headers. What they all need is the local header in front of a member's
// bytes, so the sweep looks for these headers and believes no directory.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace sluice::format {

struct SweptMember {
  std::string_view name;     ///< as in the local header, any bytes; a view of the file
  std::uint16_t method = 0;  ///< 0: stored, 8: deflated
  bool encrypted = false;
  std::size_t offset_bytes = 0;  ///< of its bytes in the file; where they end is not known
};

/// True when the file begins with a member, or has a zip's end record where readers look for one: in the last
/// 64 KiB.
[[nodiscard]] bool may_be_zip(base::Bytes file);

/// The next local header at or behind `from`; false when there is none. Sets `from` behind its signature.
[[nodiscard]] bool next_member(base::Bytes file, std::size_t& from, SweptMember& member);

}  // namespace sluice::format
