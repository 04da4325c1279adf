#pragma once
// Tokens that stand in a text by their spelling and are cut out of it before anything else looks at it.

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/text.h"

namespace sluice::text {

/// The longest spelling: it bounds the time that a search takes at each place of a text.
constexpr std::size_t kAddedTokenBytesMax = 1024;

struct AddedTokenRule {
  TokenId id = 0;
  std::string text;          ///< 1 to kAddedTokenBytesMax bytes
  bool needs_trust = false;  ///< found in trusted ranges only
  bool left_strip = false;   ///< takes the white space before it along
  bool right_strip = false;  ///< and that behind it
  bool single_word = false;  ///< is no token next to a letter, digit or underscore
  bool normalized = false;   ///< is searched in the normalized text
};

/// A token, and the part of the text that it takes.
struct AddedTokenMatch {
  TextRange range;
  TokenId id = 0;
};

/// Finds added tokens as Hugging Face's tokenizers do. Thread-safe after construction.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// The first of two rules of one text counts.
  explicit AddedTokenFinder(std::vector<AddedTokenRule> rules);

  [[nodiscard]] bool empty() const { return rules_.empty(); }
  /// All tokens from left to right, at each place the longest. A rule that needs trust is found only where
  /// its text lies within one of the `trusted` ranges, and is then preferred to a rule without that need that
  /// begins in front of it and reaches into it from outside its range. No other match hides it.
  [[nodiscard]] std::vector<AddedTokenMatch> find(std::string_view text,
                                                  std::span<const TextRange> trusted) const;

 private:
  struct Found {
    const AddedTokenRule* rule = nullptr;
    std::size_t end = 0;
  };
  [[nodiscard]] Found longest_at(std::string_view text, std::size_t at,
                                 std::span<const TextRange> trusted) const;
  [[nodiscard]] bool hides_trusted(std::string_view text, TextRange match,
                                   std::span<const TextRange> trusted) const;

  std::vector<AddedTokenRule> rules_;  // by text
  std::array<std::uint32_t, 257>
      first_byte_{};  // rules_ from first_byte_[b] to first_byte_[b + 1] begin with b
  bool any_needs_trust_ = false;
};

}  // namespace sluice::text
