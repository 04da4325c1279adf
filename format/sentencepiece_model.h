#pragma once
// Reads and writes SentencePiece models (tokenizer.model), as far as other formats need their content. The
// SentencePiece library tokenizes text elsewhere; this handles its protobuf message, of which Sluice needs a
// dozen fields. Source: sentencepiece_model.proto, and protobuf's "Encoding" page.
//
// Rejected: linking protobuf for it. The message's classes are not part of Debian's SentencePiece package,
// and the checks (lengths, UTF-8, types) are as much code with protobuf as without it.

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
  std::int32_t unk_id = 0;  ///< -1 means none, for the other ids too
  std::int32_t bos_id = 1;
  std::int32_t eos_id = 2;
  std::int32_t pad_id = -1;
  // Normalization of the text:
  bool has_charsmap = false;  ///< maps characters to others (for example NFKC)
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;

  bool operator==(const SentencePieceModel&) const = default;
};

/// Error{malformed} naming `subject` for bytes that are cut off, are no such message, or exceed its limits:
/// 2^24 pieces of at most 1,024 bytes of UTF-8, ids that are pieces. Unknown fields are skipped.
[[nodiscard]] SentencePieceModel parse_sentencepiece(base::Bytes bytes, std::string_view subject);

/// The bytes of a tokenizer.model that tokenizes as `model` says. `has_charsmap` must be false.
[[nodiscard]] std::vector<std::byte> encode_sentencepiece(const SentencePieceModel& model);

}  // namespace sluice::format
