#pragma once
// Where the members of a zip file lie, for the zip files that torch writes: stored members only, zip64,
// nothing between them. The central directory says what there is, and every local header, data descriptor
// and byte range must agree with it, because loaders that trust different copies of a name or a size are
// how a file shows one content to a scanner and another to its user (CVE-2025-1944, CVE-2025-1945).
// Reads the directory and the headers, never the payload.  // PKWARE APPNOTE 6.3.10, section 4

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"

namespace sluice::format {

struct ZipMember {
  std::string name;
  std::uint64_t offset_bytes = 0;  ///< of the payload in the file
  std::uint64_t length_bytes = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t header_offset_bytes = 0;  ///< of the local header before the payload
  std::uint64_t end_offset_bytes = 0;     ///< behind the payload and its data descriptor
};

/// The members in the order of the central directory. Error{malformed} names the file, the member and the
/// cause; the byte ranges that are returned lie inside the file and do not overlap.
[[nodiscard]] std::vector<ZipMember> read_zip_index(const base::File& file);

/// The same of a file that is known to be damaged, as far as the central directory alone tells it: what a
/// local header or a data descriptor says is not held against it.
[[nodiscard]] std::vector<ZipMember> read_zip_outline(const base::File& file);

/// The payload of a small member, with its CRC-32 checked. A CRC of 0 stands for "not computed": torch
/// leaves it so after torch.serialization.set_crc32_options(False).
[[nodiscard]] std::vector<std::byte> read_zip_member(const base::File& file, const ZipMember& member,
                                                     std::uint64_t bytes_max);

}  // namespace sluice::format
