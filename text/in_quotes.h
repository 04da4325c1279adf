#pragma once

#include <string>
#include <string_view>

namespace sluice::text {

/// A text of a stranger's file as a message may show it: in quotation marks, without control characters, and
/// cut after `bytes_max` bytes.
[[nodiscard]] std::string in_quotes(std::string_view text, std::size_t bytes_max = 60);

}  // namespace sluice::text
