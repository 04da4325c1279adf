#pragma once
// Finds the members of a zip file, for the zip files that torch writes: stored members only, zip64, no gaps
// between them. The central directory lists the members, and every local header, data descriptor and byte
// range must agree with it: a file can show one content to a scanner and another to its user when the two
// read different copies of a name or a size (CVE-2025-1944, CVE-2025-1945). Reads the directory and the
// headers, never the payload. Source: PKWARE APPNOTE 6.3.10, section 4.

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

/// The members in the order of the central directory. Their byte ranges lie inside the file and do not
/// overlap. Error{malformed} names the file, the member and the cause.
[[nodiscard]] std::vector<ZipMember> read_zip_index(const base::File& file);

/// The members of a file that is known to be damaged, from the central directory alone: contradictions in
/// local headers and data descriptors are ignored.
[[nodiscard]] std::vector<ZipMember> read_zip_outline(const base::File& file);

/// The payload of a small member, with its CRC-32 verified. A CRC of 0 means "not computed": torch writes it
/// after torch.serialization.set_crc32_options(False).
[[nodiscard]] std::vector<std::byte> read_zip_member(const base::File& file, const ZipMember& member,
                                                     std::uint64_t bytes_max);

}  // namespace sluice::format
