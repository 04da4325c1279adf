#pragma once
// Computes the digests of a work unit, chunk by chunk. The work on a chunk can be divided among threads: each
// sequential digest (MD5, SHA-256, SHA-1 pieces) is one part, and the leaves can be cut anywhere.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/digest_files.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/paired_hasher.h"
#include "base/unit_reader.h"

namespace sluice::base {

/// Computes v1 piece hashes over a stream in which some bytes may be unknown.
class PieceHasher final {
 public:
  /// `pieces` are those of the whole stream; pieces with unknown bytes stay empty.
  PieceHasher(std::uint64_t piece_bytes, std::span<std::optional<Sha1>> pieces);

  /// Moves to a stream offset at which a piece begins.
  void start(std::uint64_t stream_offset_bytes);
  /// The first part of `bytes` that belongs to the current piece.
  [[nodiscard]] Bytes within_piece(Bytes bytes) const;
  /// `bytes` belong to the current piece.
  void update(Bytes bytes);
  static void update_pair(PieceHasher& a, Bytes bytes_of_a, PieceHasher& b, Bytes bytes_of_b);
  /// Skips bytes that could not be read. Their pieces get no hash.
  void skip(std::uint64_t length_bytes);
  /// Ends the last piece of the stream, which may be short.
  void finish();

 private:
  void advance(std::uint64_t count);
  void finish_piece();

  std::uint64_t piece_bytes_;
  std::span<std::optional<Sha1>> pieces_;
  std::uint64_t piece_ = 0;
  std::uint64_t filled_bytes_ = 0;
  bool known_ = true;
  PairedHasher<Sha1> hasher_;
};

/// Collects the leaves of one segment and stores them in the leaves or the layer of its file.
class LeafCollector final {
 public:
  /// Where the digests of the chunk's blocks are to be written.
  [[nodiscard]] std::span<Sha256> add(const StreamChunk& chunk);
  /// Stores the leaves in the file's digests. Leaves that make up a whole node are replaced by it.
  void flush(const StreamChunk& chunk, std::uint64_t blocks_per_node, FileDigests& digests);

 private:
  std::vector<Sha256> leaves_;     // not yet stored
  std::uint64_t first_block_ = 0;  // index of leaves_[0] in the file
};

/// Use: start(unit); for each chunk begin(), the work on it, end(); finish().
class UnitHasher final {
 public:
  UnitHasher(const DigestWants& wants, DigestFiles& files, std::span<std::optional<Sha1>> pieces);

  void start(const WorkUnit& unit);
  void begin(const StreamChunk& chunk);

  // All of the following must be done with each chunk, by one thread or by several at once ...
  [[nodiscard]] std::size_t leaf_count() const { return leaves_.size(); }
  void hash_leaves(std::size_t first, std::size_t last);
  void update_md5();
  void update_sha256();
  void update_pieces();

  // ... where these replace update_sha256() and update_pieces(): the SHA digests of two hashers advance
  // together, by as many bytes as both have pending, and the rest of the longer one follows alone.
  [[nodiscard]] Bytes pending() const;
  void step(std::size_t count);
  static void step_pair(UnitHasher& a, UnitHasher& b, std::size_t count);

  /// Ends the work on the chunk. Releases its file when it was the last chunk of a segment.
  void end();
  void finish();

 private:
  [[nodiscard]] bool has_pieces() const { return wants_.v1_piece_bytes > 0; }
  [[nodiscard]] bool has_file_digest() const { return wants_.sha256 && !chunk_.pad; }
  [[nodiscard]] Bytes take_pending(std::size_t count);

  const DigestWants& wants_;
  DigestFiles& files_;
  PieceHasher pieces_;
  Hasher<Md5> md5_;
  PairedHasher<Sha256> sha256_;
  LeafCollector leaf_collector_;
  StreamChunk chunk_;
  std::span<Sha256> leaves_;  // of chunk_
  Bytes pending_;             // the part of chunk_ that step() has not processed
};

}  // namespace sluice::base
