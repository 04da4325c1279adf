#pragma once
// The parts of a tokenizer.json around its model.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "format/json.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"

namespace sluice::text {

struct Pipeline {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  bool is_byte_level = false;     ///< the vocabulary spells bytes by letters
  std::string token_in_front;     ///< what the post-processor puts before a text; empty: nothing
  std::uint64_t id_in_front = 0;  ///< and its id, as the post-processor has it
  std::pair<std::string, std::string>
      shown_as;  ///< in a piece, .first is shown as .second; both may be empty
};

/// Reads `file`, a tokenizer.json, and from `config`, its tokenizer_config.json, whether a space goes in
/// front of a text. Error{malformed} naming `subject` and the place for everything that is not supported.
[[nodiscard]] Pipeline read_pipeline(const format::Json& file, const format::Json& config,
                                     std::string_view subject);

}  // namespace sluice::text
