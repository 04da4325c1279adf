#include "base/multi_digest.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <optional>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/bytes.h"
#include "base/digest_files.h"
#include "base/digest_plan.h"
#include "base/merkle.h"
#include "base/parallel.h"
#include "base/strand_hasher.h"
#include "base/strand_reader.h"
#include "base/wide_sha.h"

namespace sluice::base {
namespace {

// Small enough that two of them stay in a core's L2 cache from the read to the last digest.
constexpr std::uint64_t kChunkBytesMax = std::uint64_t{128} << 10;
// What several threads share, who wait for each other after each, or what goes past the cache in one request.
constexpr std::uint64_t kSharedChunkBytesMax = std::uint64_t{4} << 20;

/// The largest chunk with which `count` readers fit the memory: whole leaves, so that none spans two chunks.
std::size_t chunk_bytes(std::uint64_t memory_bytes, std::size_t count, std::uint64_t max_bytes) {
  const std::uint64_t share =
      memory_bytes / (count * kCachedReaderChunks) / kMerkleBlockBytes * kMerkleBlockBytes;
  return static_cast<std::size_t>(std::clamp<std::uint64_t>(share, kMerkleBlockBytes, max_bytes));
}

class Engine {
 public:
  Engine(std::span<const DigestInput> inputs, const DigestWants& wants, const DigestOptions& options,
         Progress& progress, const std::stop_token& stop)
      : inputs_(inputs),
        wants_(wants),
        options_(options),
        progress_(progress),
        stop_(stop),
        plan_(make_plan(inputs, wants)),
        files_(inputs, wants, options, plan_, progress),
        pool_(options.thread_count) {
    if (wants.v1_piece_bytes == 0) return;
    std::uint64_t stream_bytes = 0;
    for (const DigestInput& input : inputs) stream_bytes += input.length_bytes;
    pieces_.resize(divide_up(stream_bytes, wants.v1_piece_bytes));
  }

  StreamDigests run() {
    share_out();
    for (const std::size_t strand : together_) take_together(plan_.strands[strand]);
    if (!apart_.empty()) {
      const bool paired =
          (wants_.v1_piece_bytes > 0 || wants_.sha256) && apart_.size() > pool_.thread_count();
      const std::size_t workers = std::min<std::size_t>(pool_.thread_count(), apart_.size());
      pool_.run(workers, [&](std::size_t, unsigned) { take_apart(paired ? 2 : 1); });
    }
    StreamDigests digests{files_.take(), std::move(pieces_)};
    forget_pieces_of_changed(digests);
    return digests;
  }

 private:
  /// A file that changed says nothing about the pieces that it shares with others.
  void forget_pieces_of_changed(StreamDigests& digests) const {
    if (wants_.v1_piece_bytes == 0) return;
    std::uint64_t begin_bytes = 0;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::uint64_t end_bytes = begin_bytes + inputs_[i].length_bytes;
      if (digests.files[i].state == ReadState::changed) {
        const std::uint64_t last = divide_up(end_bytes, wants_.v1_piece_bytes);
        for (std::uint64_t piece = begin_bytes / wants_.v1_piece_bytes; piece < last; ++piece)
          digests.v1_pieces[piece].reset();
      }
      begin_bytes = end_bytes;
    }
  }

  /// A strand and what works on it, for one thread.
  struct Lane {
    Lane(const Engine& engine, DigestFiles& files, std::span<std::optional<Sha1>> pieces, std::size_t chunk)
        : reader(engine.plan_.segments, files, engine.options_, engine.progress_, engine.stop_),
          hasher(engine.wants_, files, pieces),
          buffer(chunk_buffer_bytes(chunk)) {}

    StrandReader reader;
    StrandHasher hasher;
    AlignedBuffer buffer;
    bool in_strand = false;
    bool in_chunk = false;
  };

  /// Strands that are longer than all that would be left for the other threads are for all threads together,
  /// when there is more than one thing to do with them.
  void share_out() {
    const int kinds = (wants_.md5 ? 1 : 0) + (wants_.sha256 ? 1 : 0) + (wants_.leaves ? 1 : 0) +
                      (wants_.v1_piece_bytes > 0 ? 1 : 0);
    const bool may_share = kinds > 1 && pool_.thread_count() > 1;
    std::vector<std::size_t> order(plan_.strands.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto length_of = [&](std::size_t strand) { return plan_.strands[strand].length_bytes; };
    // Whole files differ in length; the longest come first, so that none is left over for the end.
    if (wants_.md5 || wants_.sha256) std::ranges::stable_sort(order, std::ranges::greater(), length_of);
    std::uint64_t rest_bytes = 0;
    for (const std::size_t strand : order) rest_bytes += length_of(strand);
    for (const std::size_t strand : order) {
      rest_bytes -= length_of(strand);
      const bool alone = may_share && length_of(strand) > rest_bytes && apart_.empty();
      (alone ? together_ : apart_).push_back(strand);
    }
  }

  /// One worker's part of the strands that are taken apart.
  void take_apart(std::size_t lane_count) {
    const std::size_t buffers = pool_.thread_count() * lane_count;
    // Sixteen leaves where that many are hashed at a time.
    const bool wide = wants_.leaves && has_wide_sha();
    const std::uint64_t cached_bytes =
        wide ? std::max(kChunkBytesMax, kWideShaMessages * kMerkleBlockBytes) : kChunkBytesMax;
    const std::uint64_t max_bytes = options_.direct ? kSharedChunkBytesMax : cached_bytes;
    const std::size_t chunk = chunk_bytes(options_.memory_bytes, buffers, max_bytes);
    Lane a(*this, files_, pieces_, chunk);
    std::optional<Lane> b;
    if (lane_count > 1) b.emplace(*this, files_, pieces_, chunk);
    while (true) {
      const bool has_a = prepare(a);
      const bool has_b = b && prepare(*b);
      if (has_a && has_b) {
        const auto count = std::min(a.hasher.pending().size(), b->hasher.pending().size());
        StrandHasher::step_pair(a.hasher, b->hasher, count);
      } else if (has_a || has_b) {
        StrandHasher& hasher = has_a ? a.hasher : b->hasher;
        hasher.step(hasher.pending().size());
      } else {
        return;
      }
    }
  }

  /// Reads on until there is something for the chains of SHA; false when no strand is left.
  bool prepare(Lane& lane) {
    while (lane.hasher.pending().empty()) {
      if (std::exchange(lane.in_chunk, false)) {
        lane.reader.leave_chunk();
        lane.hasher.end();
      }
      if (!lane.in_strand) {
        const std::size_t next = next_apart_.fetch_add(1);
        if (next >= apart_.size()) return false;
        lane.reader.start(plan_.strands[apart_[next]]);
        lane.hasher.start(plan_.strands[apart_[next]]);
        lane.in_strand = true;
      }
      const std::optional<Chunk> chunk = lane.reader.next(lane.buffer.bytes());
      if (!chunk) {
        lane.hasher.finish();
        lane.in_strand = false;
        continue;
      }
      lane.hasher.begin(*chunk);
      lane.hasher.hash_leaves(0, lane.hasher.leaf_count());
      lane.hasher.update_md5();
      lane.in_chunk = true;
    }
    return true;
  }

  /// All threads work on one chunk: the next one is read, each chain is fed and leaves are hashed side by
  /// side.
  void take_together(const Strand& strand) {
    StrandReader reader(plan_.segments, files_, options_, progress_, stop_);
    StrandHasher hasher(wants_, files_, pieces_);
    const std::size_t buffer_bytes =
        chunk_buffer_bytes(chunk_bytes(options_.memory_bytes, 2, kSharedChunkBytesMax));
    AlignedBuffer now(buffer_bytes);
    AlignedBuffer then(buffer_bytes);
    reader.start(strand);
    hasher.start(strand);
    std::optional<Chunk> chunk = reader.next(now.bytes());
    while (chunk) {
      std::optional<Chunk> next;
      hasher.begin(*chunk);
      const std::size_t leaves = hasher.leaf_count();
      const std::size_t leaf_tasks = std::min<std::size_t>(leaves, pool_.thread_count() * 4);
      constexpr std::size_t kChains = 4;  // the longest first
      pool_.run(kChains + leaf_tasks, [&](std::size_t task, unsigned) {
        switch (task) {
          case 0: next = reader.next(then.bytes()); return;
          case 1: hasher.update_md5(); return;
          case 2: hasher.update_sha256(); return;
          case 3: hasher.update_pieces(); return;
          default: break;
        }
        task -= kChains;
        hasher.hash_leaves(task * leaves / leaf_tasks, (task + 1) * leaves / leaf_tasks);
      });
      hasher.end();
      chunk = next;
      std::swap(now, then);
    }
    hasher.finish();
  }

  std::span<const DigestInput> inputs_;
  const DigestWants& wants_;
  const DigestOptions& options_;
  Progress& progress_;
  const std::stop_token& stop_;
  const DigestPlan plan_;
  DigestFiles files_;
  WorkerPool pool_;
  std::vector<std::optional<Sha1>> pieces_;
  std::vector<std::size_t> together_;
  std::vector<std::size_t> apart_;
  std::atomic<std::size_t> next_apart_{0};
};

}  // namespace

StreamDigests compute_digests(std::span<const DigestInput> inputs, const DigestWants& wants,
                              const DigestOptions& options, Progress& progress, const std::stop_token& stop) {
  return Engine(inputs, wants, options, progress, stop).run();
}

}  // namespace sluice::base
