#pragma once
// Base64 with padding on one line (RFC 4648, section 4), over libsodium. The reader is strict: it accepts
// only text that to_base64 can have written.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

[[nodiscard]] std::string to_base64(Bytes bytes);

/// Nothing for other characters, blanks, wrong padding, or bits after the last byte that are not zero.
[[nodiscard]] std::optional<std::vector<std::byte>> parse_base64(std::string_view text);

}  // namespace sluice::base
