#pragma once
// The pieces of a SentencePiece model (tokenizer.model), as far as another format must say them. Text is
// tokenized by the SentencePiece library, in text; this reads and writes its protobuf message, of which
// Sluice needs a dozen fields. Source: sentencepiece_model.proto, and protobuf's "Encoding" page.
//
// Rejected: linking protobuf for it. The message's classes are no part of Debian's SentencePiece package, and
// what must be checked (lengths, UTF-8, types) is as much code with it as without it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::format {

/// Numbers of SentencePiece.Type, which GGUF's token_type shares.
enum class PieceType : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;

  bool operator==(const SentencePiece&) const = default;
};

struct SentencePieceModel {
  enum class Algorithm : std::uint8_t { unigram = 1, bpe = 2, word = 3, character = 4 };

  std::vector<SentencePiece> pieces;  ///< the index is the token's id
  Algorithm algorithm = Algorithm::unigram;
  bool byte_fallback = false;
  std::int32_t unk_id = 0;  ///< -1: there is none, as for the others
  std::int32_t bos_id = 1;
  std::int32_t eos_id = 2;
  std::int32_t pad_id = -1;
  // What is done to a text first.
  bool has_charsmap = false;  ///< characters are mapped to others (NFKC and the like)
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;

  bool operator==(const SentencePieceModel&) const = default;
};

/// Error{malformed} naming `subject` for what is cut off, no such message, or beyond its limits: 2^24 pieces,
/// 1,024 bytes of UTF-8 each, ids that are pieces. Fields that it does not know are skipped.
[[nodiscard]] SentencePieceModel parse_sentencepiece(base::Bytes bytes, std::string_view subject);

/// A tokenizer.model that tokenizes like this. `has_charsmap` must be false.
[[nodiscard]] std::vector<std::byte> encode_sentencepiece(const SentencePieceModel& model);

}  // namespace sluice::format
