#pragma once
// Base64 with padding on one line (RFC 4648, section 4), strict: only what to_base64 would have written is
// read.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

[[nodiscard]] std::string to_base64(Bytes bytes);

/// Nothing for other characters, blanks, wrong padding and stray bits at the end.
[[nodiscard]] std::optional<std::vector<std::byte>> parse_base64(std::string_view text);

}  // namespace sluice::base
