#pragma once
// What is computed of a strand, chunk by chunk. The work on a chunk comes in parts that may go on side by
// side, by several threads: each chain (MD5, SHA-256, SHA-1 pieces) as one, the leaves in any cut.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/digest_files.h"
#include "base/hasher.h"
#include "base/lane_hasher.h"
#include "base/merkle.h"
#include "base/strand_reader.h"

namespace sluice::base {

/// SHA-1 pieces over a stream in which some bytes may be unknown.
class PieceChain final {
 public:
  /// `pieces` are those of the whole stream.
  PieceChain(std::uint64_t piece_bytes, std::span<std::optional<Sha1>> pieces);

  /// To a place in the stream where a piece begins.
  void start(std::uint64_t stream_offset_bytes);
  /// The bytes that are still in the current piece.
  [[nodiscard]] Bytes within_piece(Bytes bytes) const;
  /// Of bytes within the current piece.
  void update(Bytes bytes);
  static void update_pair(PieceChain& a, Bytes bytes_of_a, PieceChain& b, Bytes bytes_of_b);
  /// Goes on over bytes that could not be read: their pieces have no hash.
  void skip(std::uint64_t length_bytes);
  /// The last piece of the stream may be short.
  void finish();

 private:
  void advance(std::uint64_t count);
  void finish_piece();

  std::uint64_t piece_bytes_;
  std::span<std::optional<Sha1>> pieces_;
  std::uint64_t piece_ = 0;
  std::uint64_t filled_bytes_ = 0;
  bool known_ = true;
  LaneHasher<Sha1> hasher_;
};

/// Leaves of one segment, put into the leaves or the layer of its file as they come.
class LeafRow final {
 public:
  /// The digests of a chunk's blocks are to be put in here.
  [[nodiscard]] std::span<Sha256> add(const Chunk& chunk);
  /// Takes what was added over to the file; nodes are made of leaves as soon as they are full.
  void settle(const Chunk& chunk, std::uint64_t blocks_per_node, FileDigests& digests);

 private:
  std::vector<Sha256> leaves_;     // not yet settled
  std::uint64_t first_block_ = 0;  // of them, in the file
};

class StrandHasher final {
 public:
  StrandHasher(const DigestWants& wants, DigestFiles& files, std::span<std::optional<Sha1>> pieces);

  void start(const Strand& strand);

  /// A chunk comes ...
  void begin(const Chunk& chunk);

  // ... all of this is done with it, by one thread or several side by side, ...
  [[nodiscard]] std::size_t leaf_count() const { return leaves_.size(); }
  void hash_leaves(std::size_t first, std::size_t last);
  void update_md5();
  void update_sha256();
  void update_pieces();

  // ... or, for the chains of SHA, by steps: as many bytes as both, or the one that is left, have.
  [[nodiscard]] Bytes pending() const;
  void step(std::size_t count);
  static void step_pair(StrandHasher& a, StrandHasher& b, std::size_t count);

  /// ... and the chunk is done with. Releases its file when it is the last of it.
  void end();

  /// The strand is.
  void finish();

 private:
  [[nodiscard]] bool has_pieces() const { return wants_.v1_piece_bytes > 0; }
  [[nodiscard]] bool has_file_chain() const { return wants_.sha256 && !chunk_.pad; }
  [[nodiscard]] Bytes take_pending(std::size_t count);

  const DigestWants& wants_;
  DigestFiles& files_;
  PieceChain pieces_;
  Hasher<Md5> md5_;
  LaneHasher<Sha256> sha256_;
  LeafRow row_;
  Chunk chunk_;
  std::span<Sha256> leaves_;  // of the chunk
  Bytes pending_;             // of the chunk
};

}  // namespace sluice::base
