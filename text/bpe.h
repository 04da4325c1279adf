#pragma once
// Byte-pair encoding (arXiv 1508.07909): a piece of text begins as a row of bytes or characters, and the
// neighbours whose merge has the lowest rank become one token, until no two neighbours can be merged.

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/flat_tables.h"
#include "text/text.h"

namespace sluice::text {

/// From what a row of tokens starts.
enum class StartSymbols : std::uint8_t {
  bytes,       ///< one token a byte
  characters,  ///< one a character, and one a byte of a character that has no token
};

struct BpeModel {
  StartSymbols start = StartSymbols::bytes;
  PieceTable pieces;  ///< find() knows those that a text can become
  MergeTable merges{0};
  bool whole_pieces_first = false;      ///< a piece that is a token is that token, whatever the merges say
  std::array<TokenId, 256> byte_ids{};  ///< the token of a byte; kNoToken where there is none

  static constexpr TokenId kNoToken = -1;
};

/// Encodes pieces of text. Thread-safe.
class Bpe {
 public:
  /// Every byte that occurs in UTF-8 must have a token.
  explicit Bpe(BpeModel model);

  /// Appends the ids of `piece`, in O(n log n). Fewer than 2^31 bytes.
  void encode(std::string_view piece, std::vector<TokenId>& ids) const;

  [[nodiscard]] const PieceTable& pieces() const { return model_.pieces; }

 private:
  void merge(std::string_view piece, std::vector<TokenId>& ids) const;
  void append_bytes(std::string_view bytes, std::vector<TokenId>& symbols) const;
  void append_characters(std::string_view text, std::vector<TokenId>& symbols) const;

  BpeModel model_;
  // By id: a piece of these bytes was seen to merge into this one token. Written by any thread; a thread that
  // does not see it yet merges again.
  std::unique_ptr<std::atomic<bool>[]> is_reached_;
};

}  // namespace sluice::text
