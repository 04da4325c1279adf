// Byte-pair encoding. Most pieces are short words: whole tokens, which one look in a table finds, or a few
// symbols, for which a scan of all pairs is fastest. Long pieces (a megabyte without a space is one) go
// through a heap of pairs over a linked list, where each merge costs O(log n).
//
// Both give the same: of all pairs the one with the lowest rank is merged next, of equal ones the leftmost.

#include "text/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/invariant.h"
#include "text/characters.h"

namespace sluice::text {
namespace {

constexpr std::size_t kShortMax = 48;  // symbols of a piece that is scanned

// U+FFFD stands for bytes that no token stands for; they occur in no UTF-8.
constexpr std::string_view kReplacement = "\uFFFD";

void merge_short(const MergeTable& table, std::vector<TokenId>& symbols, std::size_t first) {
  std::size_t count = symbols.size() - first;
  TokenId* const row = symbols.data() + first;
  std::array<Merge, kShortMax> merges;  // of symbols i and i + 1
  for (std::size_t i = 0; i + 1 < count; ++i) merges[i] = table.find(row[i], row[i + 1]);
  while (count > 1) {
    const auto best =
        std::min_element(merges.begin(), merges.begin() + static_cast<std::ptrdiff_t>(count - 1),
                         [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->rank == Merge::kNone) break;
    const auto at = static_cast<std::size_t>(best - merges.begin());
    row[at] = best->product;
    for (std::size_t i = at + 1; i + 1 < count; ++i) {
      row[i] = row[i + 1];
      merges[i] = merges[i + 1];
    }
    --count;
    // The merge at `at` is of a symbol that is gone; the one that moved to `at` is of its right neighbour.
    if (at > 0) merges[at - 1] = table.find(row[at - 1], row[at]);
    if (at + 1 < count) merges[at] = table.find(row[at], row[at + 1]);
  }
  symbols.resize(first + count);
}

class LongMerge {
 public:
  LongMerge(const MergeTable& table, std::span<TokenId> row)
      : table_(table), row_(row), merges_(row.size()), previous_(row.size()), next_(row.size()) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      previous_[i] = i == 0 ? kNowhere : static_cast<std::uint32_t>(i - 1);
      next_[i] = i + 1 == row.size() ? kNowhere : static_cast<std::uint32_t>(i + 1);
      if (next_[i] == kNowhere) continue;
      merges_[i] = table.find(row[i], row[i + 1]);
      if (merges_[i].rank != Merge::kNone) heap_.push_back(entry_of(static_cast<std::uint32_t>(i)));
    }
    std::ranges::make_heap(heap_, std::greater<>());
  }

  /// Merges all; returns how many symbols are left at the start of the row.
  std::size_t run() {
    while (!heap_.empty()) {
      std::ranges::pop_heap(heap_, std::greater<>());
      const std::uint64_t entry = heap_.back();
      heap_.pop_back();
      const auto at = static_cast<std::uint32_t>(entry);
      // The pair at this place may have become another one since.
      if (merges_[at].rank == static_cast<std::uint32_t>(entry >> 32)) merge_at(at);
    }
    std::size_t count = 0;
    for (std::uint32_t at = 0; at != kNowhere; at = next_[at]) row_[count++] = row_[at];
    return count;
  }

 private:
  static constexpr std::uint32_t kNowhere = std::numeric_limits<std::uint32_t>::max();

  [[nodiscard]] std::uint64_t entry_of(std::uint32_t at) const {
    return static_cast<std::uint64_t>(merges_[at].rank) << 32 | at;
  }

  void merge_at(std::uint32_t at) {
    const std::uint32_t right = next_[at];
    row_[at] = merges_[at].product;
    merges_[right] = {};
    next_[at] = next_[right];
    if (next_[at] != kNowhere) previous_[next_[at]] = at;
    look_up(at);
    if (previous_[at] != kNowhere) look_up(previous_[at]);
  }

  void look_up(std::uint32_t at) {
    merges_[at] = next_[at] == kNowhere ? Merge{} : table_.find(row_[at], row_[next_[at]]);
    if (merges_[at].rank == Merge::kNone) return;
    heap_.push_back(entry_of(at));
    std::ranges::push_heap(heap_, std::greater<>());
  }

  const MergeTable& table_;
  std::span<TokenId> row_;
  std::vector<Merge> merges_;  // of the symbol at a place and the one after it
  std::vector<std::uint32_t> previous_;
  std::vector<std::uint32_t> next_;
  std::vector<std::uint64_t> heap_;  // rank, place
};

}  // namespace

Bpe::Bpe(BpeModel model)
    : model_(std::move(model)), is_reached_(new std::atomic<bool>[model_.pieces.size()]()) {
  for (std::size_t byte = 0; byte < 0xF5; ++byte)
    INVARIANT(byte == 0xC0 || byte == 0xC1 || model_.byte_ids[byte] != BpeModel::kNoToken);
}

void Bpe::encode(std::string_view piece, std::vector<TokenId>& ids) const {
  const auto whole = model_.pieces.find(piece);
  if (!whole) return merge(piece, ids);
  std::atomic<bool>& is_reached = is_reached_[static_cast<std::size_t>(*whole)];
  if (model_.whole_pieces_first || is_reached.load(std::memory_order_relaxed)) {
    ids.push_back(*whole);
    return;
  }
  const std::size_t first = ids.size();
  merge(piece, ids);
  if (ids.size() == first + 1 && ids.back() == *whole) is_reached.store(true, std::memory_order_relaxed);
}

void Bpe::merge(std::string_view piece, std::vector<TokenId>& ids) const {
  const std::size_t first = ids.size();
  if (model_.start == StartSymbols::bytes) {
    append_bytes(piece, ids);
  } else {
    append_characters(piece, ids);
  }
  const std::size_t count = ids.size() - first;
  if (count < 2) return;
  if (count <= kShortMax) return merge_short(model_.merges, ids, first);
  ids.resize(first + LongMerge(model_.merges, std::span(ids).subspan(first)).run());
}

void Bpe::append_bytes(std::string_view bytes, std::vector<TokenId>& symbols) const {
  for (const char byte : bytes) {
    const TokenId id = model_.byte_ids[static_cast<unsigned char>(byte)];
    if (id != BpeModel::kNoToken) {
      symbols.push_back(id);
    } else {
      append_bytes(kReplacement, symbols);
    }
  }
}

// Source: tokenizers (Rust) 0.21, models/bpe/model.rs, merge_word(), with byte_fallback.
void Bpe::append_characters(std::string_view text, std::vector<TokenId>& symbols) const {
  while (!text.empty()) {
    const std::string_view character = text.substr(0, character_at(text, 0).length_bytes);
    text.remove_prefix(character.size());
    if (const auto id = model_.pieces.find(character)) {
      symbols.push_back(*id);
    } else {
      append_bytes(character, symbols);
    }
  }
}

}  // namespace sluice::text
