#pragma once
// Two flat hash tables with open addressing, in which a merge or a piece is found with one or two reads of
// memory. A vocabulary comes from a stranger, who could make all keys collide if he knew the hash function:
// both take a random number of this process into it. No result depends on that number.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/text.h"

namespace sluice::text {

/// The highest id that a vocabulary may have: tables by id stay small whatever a file says. The largest
/// released vocabularies have 262,144 ids.
constexpr TokenId kTokenIdMax = (1 << 22) - 1;

/// Byte strings by id, and ids by byte string. Thread-safe after construction.
class PieceTable {
 public:
  PieceTable();

  /// Sets the bytes of an id, once; find() does not know them yet. 0 <= id <= kTokenIdMax.
  void set(TokenId id, std::string_view bytes);
  /// Makes find() give the id for its bytes, unless it gives another one already: false.
  bool index(TokenId id);

  [[nodiscard]] std::optional<TokenId> find(std::string_view bytes) const;
  /// Empty for ids that were never set.
  [[nodiscard]] std::string_view bytes(TokenId id) const;
  [[nodiscard]] bool has(TokenId id) const;
  [[nodiscard]] std::size_t size() const { return spans_.size(); }  ///< one more than the highest id

 private:
  struct Span {
    std::uint32_t offset = kNoOffset;
    std::uint32_t length = 0;
  };
  struct Slot {
    std::uint32_t tag = 0;  ///< further bits of the hash, which spare most comparisons
    TokenId id = -1;
  };
  static constexpr std::uint32_t kNoOffset = std::numeric_limits<std::uint32_t>::max();

  void grow();
  void insert(TokenId id);

  std::uint64_t seed_;
  std::string bytes_;  // of all pieces, one after the other
  std::vector<Span> spans_;
  std::vector<Slot> slots_;  // a power of two of them, at most half of them taken
  std::size_t indexed_ = 0;
  std::size_t longest_bytes_ = 0;
};

/// A merge of two neighbouring tokens.
struct Merge {
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  std::uint32_t rank = kNone;  ///< lower ones come first; kNone: the two are not merged
  TokenId product = 0;
};

/// Merges by pair of ids. Thread-safe after construction.
class MergeTable {
 public:
  explicit MergeTable(std::size_t merge_count);

  /// A pair that is there already gets the new merge. At most `merge_count` pairs.
  void set(TokenId left, TokenId right, Merge merge);

  [[nodiscard]] Merge find(TokenId left, TokenId right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = slot_of(key);; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.key == key) return slot.merge;
      if (slot.key == kNoKey) return {};
    }
  }

 private:
  struct Slot {
    std::uint64_t key = kNoKey;
    Merge merge;
  };
  static constexpr std::uint64_t kNoKey = std::numeric_limits<std::uint64_t>::max();

  static std::uint64_t key_of(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t slot_of(std::uint64_t key) const {
    std::uint64_t hash = (key ^ seed_) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 32;
    hash *= seed_ | 1U;
    return (hash >> 32) & mask_;
  }

  std::uint64_t seed_;
  std::size_t mask_;
  std::vector<Slot> slots_;
};

}  // namespace sluice::text
