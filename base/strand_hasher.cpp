#include "base/strand_hasher.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/wide_sha.h"

namespace sluice::base {

PieceChain::PieceChain(std::uint64_t piece_bytes, std::span<std::optional<Sha1>> pieces)
    : piece_bytes_(piece_bytes), pieces_(pieces) {}

void PieceChain::start(std::uint64_t stream_offset_bytes) { piece_ = stream_offset_bytes / piece_bytes_; }

Bytes PieceChain::within_piece(Bytes bytes) const {
  return bytes.first(
      static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), piece_bytes_ - filled_bytes_)));
}

void PieceChain::update(Bytes bytes) {
  hasher_.update(bytes);
  advance(bytes.size());
}

void PieceChain::update_pair(PieceChain& a, Bytes bytes_of_a, PieceChain& b, Bytes bytes_of_b) {
  LaneHasher<Sha1>::update_pair(a.hasher_, bytes_of_a, b.hasher_, bytes_of_b);
  a.advance(bytes_of_a.size());
  b.advance(bytes_of_b.size());
}

void PieceChain::skip(std::uint64_t length_bytes) {
  while (length_bytes > 0) {
    const std::uint64_t take = std::min(length_bytes, piece_bytes_ - filled_bytes_);
    known_ = false;
    length_bytes -= take;
    advance(take);
  }
}

void PieceChain::finish() {
  if (filled_bytes_ > 0) finish_piece();
}

void PieceChain::advance(std::uint64_t count) {
  filled_bytes_ += count;
  if (filled_bytes_ == piece_bytes_) finish_piece();
}

void PieceChain::finish_piece() {
  const Sha1 digest = hasher_.final();
  if (known_) pieces_[piece_] = digest;
  ++piece_;
  known_ = true;
  filled_bytes_ = 0;
}

std::span<Sha256> LeafRow::add(const Chunk& chunk) {
  if (leaves_.empty()) first_block_ = chunk.offset_bytes / kMerkleBlockBytes;
  const std::size_t before = leaves_.size();
  leaves_.resize(before + divide_up(chunk.bytes.size(), kMerkleBlockBytes));
  return std::span(leaves_).subspan(before);
}

void LeafRow::settle(const Chunk& chunk, std::uint64_t blocks_per_node, FileDigests& digests) {
  std::span<const Sha256> rest = leaves_;
  if (digests.layer.empty()) {
    std::ranges::copy(rest, digests.leaves.begin() + static_cast<std::ptrdiff_t>(first_block_));
    rest = {};
  }
  while (rest.size() >= blocks_per_node || (chunk.ends_segment && !rest.empty())) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(rest.size(), blocks_per_node));
    digests.layer[first_block_ / blocks_per_node] = merkle_root(rest.first(count), 0, blocks_per_node);
    first_block_ += count;
    rest = rest.subspan(count);
  }
  leaves_.erase(leaves_.begin(), leaves_.end() - static_cast<std::ptrdiff_t>(rest.size()));
}

StrandHasher::StrandHasher(const DigestWants& wants, DigestFiles& files,
                           std::span<std::optional<Sha1>> pieces)
    : wants_(wants), files_(files), pieces_(wants.v1_piece_bytes, pieces) {}

void StrandHasher::start(const Strand& strand) {
  if (has_pieces()) pieces_.start(strand.stream_offset_bytes);
}

void StrandHasher::begin(const Chunk& chunk) {
  chunk_ = chunk;
  leaves_ = wants_.leaves && !chunk.pad ? row_.add(chunk) : std::span<Sha256>();
  pending_ = has_pieces() || has_file_chain() ? chunk.bytes : Bytes();
}

void StrandHasher::hash_leaves(std::size_t first, std::size_t last) {
  std::array<Bytes, kWideShaMessages> messages;
  while (first < last) {
    const std::size_t count = std::min(last - first, messages.size());
    for (std::size_t i = 0; i < count; ++i) {
      const Bytes rest = chunk_.bytes.subspan((first + i) * kMerkleBlockBytes);
      messages[i] = rest.first(std::min(rest.size(), kMerkleBlockBytes));
    }
    hash_each(std::span(messages).first(count), leaves_.subspan(first, count));
    first += count;
  }
}

void StrandHasher::update_md5() {
  if (wants_.md5 && !chunk_.pad) md5_.update(chunk_.bytes);
}

void StrandHasher::update_sha256() {
  if (has_file_chain()) sha256_.update(chunk_.bytes);
}

void StrandHasher::update_pieces() {
  if (!has_pieces()) return;
  for (Bytes rest = chunk_.bytes; !rest.empty();) {
    const Bytes bytes = pieces_.within_piece(rest);
    pieces_.update(bytes);
    rest = rest.subspan(bytes.size());
  }
}

Bytes StrandHasher::pending() const { return has_pieces() ? pieces_.within_piece(pending_) : pending_; }

void StrandHasher::step(std::size_t count) {
  const Bytes bytes = take_pending(count);
  if (has_pieces()) pieces_.update(bytes);
  if (has_file_chain()) sha256_.update(bytes);
}

void StrandHasher::step_pair(StrandHasher& a, StrandHasher& b, std::size_t count) {
  const Bytes bytes_of_a = a.take_pending(count);
  const Bytes bytes_of_b = b.take_pending(count);
  if (a.has_pieces()) PieceChain::update_pair(a.pieces_, bytes_of_a, b.pieces_, bytes_of_b);
  if (a.has_file_chain() && b.has_file_chain()) {
    LaneHasher<Sha256>::update_pair(a.sha256_, bytes_of_a, b.sha256_, bytes_of_b);
  } else if (a.has_file_chain()) {
    a.sha256_.update(bytes_of_a);
  } else if (b.has_file_chain()) {
    b.sha256_.update(bytes_of_b);
  }
}

Bytes StrandHasher::take_pending(std::size_t count) {
  const Bytes bytes = pending_.first(count);
  pending_ = pending_.subspan(count);
  return bytes;
}

void StrandHasher::end() {
  pending_ = {};
  if (has_pieces()) pieces_.skip(chunk_.gap_bytes);
  if (chunk_.pad) return;
  FileDigests& digests = files_.digests(chunk_.input);
  if (wants_.leaves) row_.settle(chunk_, wants_.blocks_per_node, digests);
  if (!chunk_.ends_segment) return;
  if (wants_.md5) digests.md5 = md5_.final();
  if (wants_.sha256) digests.sha256 = sha256_.final();
  files_.release(chunk_.input);
}

void StrandHasher::finish() {
  if (has_pieces()) pieces_.finish();
}

}  // namespace sluice::base
