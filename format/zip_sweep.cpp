#include "format/zip_sweep.h"

#include <algorithm>
#include <string_view>

namespace sluice::format {
namespace {

// PKWARE APPNOTE 6.3.10: 4.3.7 (local header) and 4.3.16 (end record).
constexpr std::string_view kLocalSignature = "PK\x03\x04";
constexpr std::string_view kEndSignature = "PK\x05\x06";
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kEndBytesMax = 22 + 0xFFFF;  // with the longest comment

}  // namespace

bool may_be_zip(base::Bytes file) {
  const std::string_view text = base::as_text(file);
  if (text.starts_with(kLocalSignature)) return true;
  return text.substr(text.size() - std::min(text.size(), kEndBytesMax)).find(kEndSignature) !=
         std::string_view::npos;
}

bool next_member(base::Bytes file, std::size_t& from, SweptMember& member) {
  const std::string_view text = base::as_text(file);
  while (true) {
    const std::size_t at = text.find(kLocalSignature, from);
    if (at == std::string_view::npos || file.size() - at < kLocalBytes) return false;
    from = at + kLocalSignature.size();
    const base::Bytes header = file.subspan(at, kLocalBytes);
    const std::size_t name_bytes = base::load_le<std::uint16_t>(header, 26);
    const std::size_t head_bytes = kLocalBytes + name_bytes + base::load_le<std::uint16_t>(header, 28);
    if (head_bytes > file.size() - at) continue;
    member.name = text.substr(at + kLocalBytes, name_bytes);
    member.method = base::load_le<std::uint16_t>(header, 8);
    member.encrypted = (base::load_le<std::uint16_t>(header, 6) & 1) != 0;
    member.offset_bytes = at + head_bytes;
    return true;
  }
}

}  // namespace sluice::format
