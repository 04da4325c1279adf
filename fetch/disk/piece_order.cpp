// The order is computed once, from file sizes and names; only the window moves. next() costs the pieces that
// have entered the window, and not all pieces, because it is called several times a second.

#include "fetch/disk/piece_order.h"

#include <algorithm>
#include <string_view>

#include "base/ascii.h"

namespace sluice::fetch {
namespace {

constexpr std::uint64_t kSmallFileBytes = 16u << 20;
constexpr std::uint64_t kWindowBytes = 512u << 20;
constexpr std::uint64_t kWindowPiecesMin = 32;  // enough for all peers when pieces are large

/// Removes the number at the front of `text` and returns its digits without leading zeros.
std::string_view take_number(std::string_view& text) {
  const auto end = std::ranges::find_if_not(text, base::is_digit);
  std::string_view number = text.substr(0, static_cast<std::size_t>(end - text.begin()));
  text.remove_prefix(number.size());
  number.remove_prefix(std::min(number.find_first_not_of('0'), number.size()));
  return number;
}

/// Sorts "model-2" before "model-10". Shards are numbered in the order of their layers, whatever order a
/// torrent lists them in.
bool in_number_order(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    if (base::is_digit(a.front()) && base::is_digit(b.front())) {
      const std::string_view x = take_number(a);
      const std::string_view y = take_number(b);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.size() < b.size();
}

std::vector<std::size_t> wanted_in_order(const format::ReleaseLayout& layout,
                                         const std::vector<bool>& wanted) {
  std::vector<std::size_t> files;
  for (std::size_t i = 0; i < layout.files.size(); ++i)
    if (wanted[i]) files.push_back(i);
  std::ranges::stable_sort(files, [&](std::size_t a, std::size_t b) {
    const format::ReleaseFile& x = layout.files[a];
    const format::ReleaseFile& y = layout.files[b];
    const bool x_small = x.length_bytes <= kSmallFileBytes;
    const bool y_small = y.length_bytes <= kSmallFileBytes;
    return x_small != y_small ? x_small : in_number_order(x.path, y.path);
  });
  return files;
}

}  // namespace

PieceOrder::PieceOrder(const format::ReleaseLayout& layout, const PieceMap& map,
                       const std::vector<bool>& wanted_files, const std::vector<bool>& wanted_pieces)
    : wanted_bytes_(map.piece_count(), 0),
      window_pieces_(std::max(kWindowBytes / layout.piece_bytes, kWindowPiecesMin)) {
  // A v1 piece can hold the end of one file and the start of the next; it is listed with the first wanted
  // one.
  std::vector<bool> listed = wanted_pieces;  // after flip(): pieces that are listed already or not wanted
  listed.flip();
  listed.resize(map.piece_count(), false);
  for (const std::size_t file : wanted_in_order(layout, wanted_files)) {
    const auto [first, last] = map.pieces_of(file);
    for (std::uint64_t piece = first; piece < last; ++piece) {
      if (!listed[piece]) order_.push_back(static_cast<std::uint32_t>(piece));
      listed[piece] = true;
    }
  }
  for (const std::uint64_t piece : order_)
    for (const PieceSlice& slice : map.slices(piece))
      if (wanted_files[slice.file_index])
        wanted_bytes_[piece] += static_cast<std::uint32_t>(slice.length_bytes);
}

std::vector<std::uint64_t> PieceOrder::next(const std::vector<bool>& have) {
  // The window starts at the first missing piece, so one rare piece holds it back. That is intended: the
  // pieces behind the window are still requested, with normal priority.
  while (first_missing_ < order_.size() && have[order_[first_missing_]]) ++first_missing_;
  std::vector<std::uint64_t> entered;
  const std::size_t end = std::min<std::size_t>(first_missing_ + window_pieces_, order_.size());
  for (window_end_ = std::max(window_end_, first_missing_); window_end_ < end; ++window_end_)
    if (!have[order_[window_end_]]) entered.push_back(order_[window_end_]);
  return entered;
}

}  // namespace sluice::fetch
