// libtorrent fetches the hashes of a v2 torrent from peers by itself, but offers them only in its resume
// data. So tick() asks for resume data, and handle() reads the trees from the answer. Runs in the worker's
// main thread.

#include "fetch/swarm/piece_layer_fetcher.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <libtorrent/alert_types.hpp>
#include <map>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "base/merkle.h"
#include "fetch/disk/piece_layers.h"
#include "fetch/torrent/bencode.h"

namespace sluice::fetch {
namespace {

constexpr auto kPauseMin = std::chrono::milliseconds(250);
constexpr auto kPauseMax = std::chrono::milliseconds(10'000);

/// Finds libtorrent's index of each file; the two lists may have different pad files.
std::vector<lt::file_index_t> match_files(const format::ReleaseLayout& layout,
                                          const lt::file_storage& files) {
  std::vector<lt::file_index_t> matches(layout.files.size(), lt::file_index_t{-1});
  std::size_t ours = 0;
  for (const lt::file_index_t index : files.file_range()) {
    if (files.pad_file_at(index)) continue;
    while (layout.files[ours].pad) ++ours;
    matches[ours++] = index;
  }
  return matches;
}

/// The nodes [first, first + count) of the tree; empty when one of them is not known.
std::vector<base::Sha256> find_row(const std::vector<lt::sha256_hash>& nodes, const std::vector<bool>& mask,
                                   std::uint64_t first, std::uint64_t count) {
  const auto begin = mask.begin() + static_cast<std::ptrdiff_t>(first);
  const auto end = begin + static_cast<std::ptrdiff_t>(count);
  if (std::find(begin, end, false) != end) return {};
  // `nodes` has only the known nodes, so a node's place there is the number of known nodes before it.
  const auto before = static_cast<std::size_t>(std::count(mask.begin(), begin, true));
  if (before + count > nodes.size()) return {};
  std::vector<base::Sha256> row(count);
  for (std::size_t i = 0; i < row.size(); ++i)
    std::memcpy(row[i].bytes.data(), nodes[before + i].data(), base::Sha256::kBytes);
  return row;
}

/// The piece layer of a file, or nothing while a hash of it is missing. `nodes` are the known nodes of the
/// file's tree in breadth-first order, and `mask` says which nodes those are (libtorrent's resume data). The
/// caller must check the layer against the file's root.
std::vector<base::Sha256> find_piece_layer(const std::vector<lt::sha256_hash>& nodes,
                                           const std::vector<bool>& mask, std::uint64_t length_bytes,
                                           std::uint64_t piece_bytes) {
  const std::uint64_t blocks = base::divide_up(length_bytes, base::kMerkleBlockBytes);
  const std::uint64_t leaves = std::bit_ceil(blocks);
  const std::uint64_t blocks_per_piece = piece_bytes / base::kMerkleBlockBytes;
  if (mask.size() != 2 * leaves - 1) return {};
  // A row of n nodes starts at index n - 1.
  const std::uint64_t first_piece = leaves / blocks_per_piece - 1;
  auto layer = find_row(nodes, mask, first_piece, base::divide_up(length_bytes, piece_bytes));
  if (!layer.empty()) return layer;
  const auto block_row = find_row(nodes, mask, leaves - 1, blocks);  // known when the file is complete
  return block_row.empty() ? block_row : base::merkle_layer(block_row, blocks_per_piece);
}

}  // namespace

PieceLayerFetcher::PieceLayerFetcher(const format::ReleaseLayout& layout, const lt::file_storage& files,
                                     const lt::torrent_handle& torrent, std::string result,
                                     std::function<void(std::string_view)> on_complete)
    : layout_(layout),
      torrent_(torrent),
      result_(std::move(result)),
      on_complete_(std::move(on_complete)),
      lt_files_(match_files(layout, files)),
      pause_(kPauseMin) {
  // A torrent that libtorrent treats as v1 has no trees; the layers of a hybrid can be made from its journal.
  complete_ = !files.v2() ||
              std::ranges::none_of(layout.files, [&](const auto& file) { return lacks_layer(layout, file); });
}

void PieceLayerFetcher::tick() {
  if (complete_ || Clock::now() < next_) return;
  next_ = Clock::now() + pause_;
  pause_ = std::min(2 * pause_, kPauseMax);
  if (asked_) return;
  asked_ = true;
  torrent_.save_resume_data();
}

void PieceLayerFetcher::hurry() {
  next_ = Clock::now();
  pause_ = kPauseMin;
}

bool PieceLayerFetcher::handle(const lt::alert& alert) {
  const auto* saved = lt::alert_cast<lt::save_resume_data_alert>(&alert);
  if (saved == nullptr && lt::alert_cast<lt::save_resume_data_failed_alert>(&alert) == nullptr) return false;
  asked_ = false;
  if (saved != nullptr && !complete_) save(saved->params);
  return true;
}

void PieceLayerFetcher::save(const lt::add_torrent_params& params) {
  std::map<std::string, std::string> layers;
  bool all_known = true;
  for (std::size_t i = 0; i < lt_files_.size(); ++i) {
    const lt::file_index_t index = lt_files_[i];
    const format::ReleaseFile& file = layout_.files[i];
    if (!lacks_layer(layout_, file)) continue;
    if (index >= params.merkle_trees.end_index() || index >= params.merkle_tree_mask.end_index()) return;
    // The layers are not compared with the roots here: the worker is not trusted anyway, and the parent
    // checks them when it adds them to the .torrent.
    const auto layer = find_piece_layer(params.merkle_trees[index], params.merkle_tree_mask[index],
                                        file.length_bytes, layout_.piece_bytes);
    all_known = all_known && !layer.empty();
    if (!layer.empty())
      layers.emplace(base::as_text(file.root->bytes), base::as_text(std::as_bytes(std::span(layer))));
  }
  if (layers.size() <= known_count_) return;  // nothing new to write
  known_count_ = layers.size();
  std::string out = "d";
  for (const auto& [root, layer] : layers) {
    bencode::append(out, root);
    bencode::append(out, layer);
  }
  out += 'e';
  // Written at each progress and not only at the end: a worker that is killed has then saved what it knew.
  base::write_file(result_, base::as_bytes(out));
  complete_ = all_known;
  if (complete_) on_complete_(out);
}

}  // namespace sluice::fetch
