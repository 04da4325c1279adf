#pragma once
// Text to token ids and back: tokenizers, chat formats, and the stream of text that generated tokens make.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "text/stop_texts.h"

namespace sluice::text {

using TokenId = std::int32_t;

/// Thread-safe after construction.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Text to ids, without BOS and EOS.
  [[nodiscard]] virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  /// The bytes that an id stands for: a leading space for the word mark, one raw byte for a byte piece,
  /// nothing for control pieces.
  [[nodiscard]] virtual std::string piece_bytes(TokenId id) const = 0;
  [[nodiscard]] virtual TokenId bos() const = 0;
  [[nodiscard]] virtual TokenId eos() const = 0;
  [[nodiscard]] virtual std::size_t size() const = 0;  ///< number of pieces
  /// The id of a control piece, which encode() never gives; nothing where there is none of that name.
  [[nodiscard]] virtual std::optional<TokenId> control_id(std::string_view piece) const = 0;
};

/// A SentencePiece tokenizer from the bytes of a tokenizer.model. Error{malformed} naming `subject` when they
/// are none.
[[nodiscard]] std::unique_ptr<Tokenizer> make_tokenizer(base::Bytes model, std::string_view subject);

/// One turn of a chat in Mistral's instruction format, BOS in front: what a model that was tuned to it
/// answers. An empty system text is none.
[[nodiscard]] std::vector<TokenId> chat_prompt(const Tokenizer& tokenizer, std::string_view system,
                                               std::string_view user);

}  // namespace sluice::text
