#pragma once
// Parses the messages of BEP 9: a bencoded dictionary, behind which a data message carries its block.

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::fetch {

struct MetadataMessage {
  enum class Kind : std::uint8_t { request = 0, data = 1, reject = 2, unknown };  ///< BEP 9: msg_type

  Kind kind = Kind::unknown;
  std::uint64_t block = 0;  ///< BEP 9 calls it the piece
  std::string_view bytes;   ///< what follows the dictionary; refers to the text that was parsed
};

/// Nothing for what is not a dictionary with a message type and a block that is not negative. Ignores other
/// keys, as BEP 9 asks.
[[nodiscard]] std::optional<MetadataMessage> parse_metadata_message(std::string_view text);

}  // namespace sluice::fetch
