// The digests of one work unit. A chunk is processed between begin() and end(); end() moves the results that
// are complete into the digests of the file.
//
// PieceHasher numbers pieces by the stream, LeafCollector numbers leaves by the file, and both write only
// elements that belong to this unit: no lock is needed. A piece hash or leaf is never wrong because of bytes
// that could not be read: it is then absent, or the whole file fails (digest_files.cpp).

#include "base/unit_hasher.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/wide_sha.h"

namespace sluice::base {

PieceHasher::PieceHasher(std::uint64_t piece_bytes, std::span<std::optional<Sha1>> pieces)
    : piece_bytes_(piece_bytes), pieces_(pieces) {}

void PieceHasher::start(std::uint64_t stream_offset_bytes) { piece_ = stream_offset_bytes / piece_bytes_; }

Bytes PieceHasher::within_piece(Bytes bytes) const {
  return bytes.first(
      static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), piece_bytes_ - filled_bytes_)));
}

void PieceHasher::update(Bytes bytes) {
  hasher_.update(bytes);
  advance(bytes.size());
}

void PieceHasher::update_pair(PieceHasher& a, Bytes bytes_of_a, PieceHasher& b, Bytes bytes_of_b) {
  PairedHasher<Sha1>::update_pair(a.hasher_, bytes_of_a, b.hasher_, bytes_of_b);
  a.advance(bytes_of_a.size());
  b.advance(bytes_of_b.size());
}

// A gap counts like bytes, so that the pieces behind it keep their borders.
void PieceHasher::skip(std::uint64_t length_bytes) {
  while (length_bytes > 0) {
    const std::uint64_t take = std::min(length_bytes, piece_bytes_ - filled_bytes_);
    known_ = false;
    length_bytes -= take;
    advance(take);
  }
}

void PieceHasher::finish() {
  if (filled_bytes_ > 0) finish_piece();
}

void PieceHasher::advance(std::uint64_t count) {
  filled_bytes_ += count;
  if (filled_bytes_ == piece_bytes_) finish_piece();
}

void PieceHasher::finish_piece() {
  const Sha1 digest = hasher_.final();
  if (known_) pieces_[piece_] = digest;  // final() was needed in any case, to reset the hasher
  ++piece_;
  known_ = true;
  filled_bytes_ = 0;
}

// The span is valid until the next call, which may move the leaves.
std::span<Sha256> LeafCollector::add(const StreamChunk& chunk) {
  if (leaves_.empty()) first_block_ = chunk.offset_bytes / kMerkleBlockBytes;
  const std::size_t before = leaves_.size();
  leaves_.resize(before + divide_up(chunk.bytes.size(), kMerkleBlockBytes));
  return std::span(leaves_).subspan(before);
}

void LeafCollector::flush(const StreamChunk& chunk, std::uint64_t blocks_per_node, FileDigests& digests) {
  // A node can span chunks: leaves that do not make up a node yet stay for the next chunk.
  std::span<const Sha256> rest = leaves_;
  if (digests.layer.empty()) {  // the file gets leaves
    std::ranges::copy(rest, digests.leaves.begin() + static_cast<std::ptrdiff_t>(first_block_));
    rest = {};
  }
  // Units end on whole nodes, so only the last node of a file is made of fewer leaves.
  while (rest.size() >= blocks_per_node || (chunk.ends_segment && !rest.empty())) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(rest.size(), blocks_per_node));
    digests.layer[first_block_ / blocks_per_node] = merkle_root(rest.first(count), 0, blocks_per_node);
    first_block_ += count;
    rest = rest.subspan(count);
  }
  leaves_.erase(leaves_.begin(), leaves_.end() - static_cast<std::ptrdiff_t>(rest.size()));
}

UnitHasher::UnitHasher(const DigestWants& wants, DigestFiles& files, std::span<std::optional<Sha1>> pieces)
    : wants_(wants), files_(files), pieces_(wants.v1_piece_bytes, pieces) {}

void UnitHasher::start(const WorkUnit& unit) {
  if (has_pieces()) pieces_.start(unit.stream_offset_bytes);
}

void UnitHasher::begin(const StreamChunk& chunk) {
  chunk_ = chunk;
  leaves_ = wants_.leaves && !chunk.pad ? leaf_collector_.add(chunk) : std::span<Sha256>();
  pending_ = has_pieces() || has_file_digest() ? chunk.bytes : Bytes();
}

void UnitHasher::hash_leaves(std::size_t first, std::size_t last) {
  // Groups of sixteen, which hash_each() computes at once where the CPU can.
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

void UnitHasher::update_md5() {
  if (wants_.md5 && !chunk_.pad) md5_.update(chunk_.bytes);
}

void UnitHasher::update_sha256() {
  if (has_file_digest()) sha256_.update(chunk_.bytes);
}

void UnitHasher::update_pieces() {
  if (!has_pieces()) return;
  for (Bytes rest = chunk_.bytes; !rest.empty();) {
    const Bytes bytes = pieces_.within_piece(rest);
    pieces_.update(bytes);
    rest = rest.subspan(bytes.size());
  }
}

// Never beyond the end of a piece, so that step() can feed one piece without a look at its border.
Bytes UnitHasher::pending() const { return has_pieces() ? pieces_.within_piece(pending_) : pending_; }

void UnitHasher::step(std::size_t count) {
  const Bytes bytes = take_pending(count);
  if (has_pieces()) pieces_.update(bytes);
  if (has_file_digest()) sha256_.update(bytes);
}

void UnitHasher::step_pair(UnitHasher& a, UnitHasher& b, std::size_t count) {
  const Bytes bytes_of_a = a.take_pending(count);
  const Bytes bytes_of_b = b.take_pending(count);
  if (a.has_pieces()) PieceHasher::update_pair(a.pieces_, bytes_of_a, b.pieces_, bytes_of_b);
  // One of the two may be at a pad file, which belongs to no file's digest.
  if (a.has_file_digest() && b.has_file_digest()) {
    PairedHasher<Sha256>::update_pair(a.sha256_, bytes_of_a, b.sha256_, bytes_of_b);
  } else if (a.has_file_digest()) {
    a.sha256_.update(bytes_of_a);
  } else if (b.has_file_digest()) {
    b.sha256_.update(bytes_of_b);
  }
}

Bytes UnitHasher::take_pending(std::size_t count) {
  const Bytes bytes = pending_.first(count);
  pending_ = pending_.subspan(count);
  return bytes;
}

void UnitHasher::end() {
  pending_ = {};
  if (has_pieces()) pieces_.skip(chunk_.gap_bytes);
  if (chunk_.pad) return;  // pad files are in the v1 stream only
  FileDigests& digests = files_.digests(chunk_.input);
  if (wants_.leaves) leaf_collector_.flush(chunk_, wants_.blocks_per_node, digests);
  if (!chunk_.ends_segment) return;
  // A file of which a digest is wanted is never cut (digest_plan.cpp), so the end of its segment is the end
  // of the file.
  if (wants_.md5) digests.md5 = md5_.final();
  if (wants_.sha256) digests.sha256 = sha256_.final();
  files_.release(chunk_.input);
}

void UnitHasher::finish() {
  if (has_pieces()) pieces_.finish();
}

}  // namespace sluice::base
