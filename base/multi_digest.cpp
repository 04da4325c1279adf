// The engine behind compute_digests(). It cuts the stream into work units and processes them in two phases:
// first the units that all threads process together (hash_together), one after the other, then all others,
// which the workers take from a shared counter (hash_separately). In the second phase a worker interleaves
// two units when SHA-1 or SHA-256 is wanted, because two messages at once keep the SHA unit busy.
//
// Invariants: chunks end on BEP 52 blocks, so that no leaf spans two of them; a piece, leaf row or file
// digest is written by the one worker that has its unit; buffers stay within DigestOptions::memory_bytes.

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
#include "base/unit_hasher.h"
#include "base/unit_reader.h"
#include "base/wide_sha.h"

namespace sluice::base {
namespace {

// Two chunks of this size stay in a core's L2 cache from the read to the last digest.
constexpr std::uint64_t kChunkBytesMax = std::uint64_t{128} << 10;
// For a chunk that all threads process together and wait for each other after it, and for direct reads, which
// are one request each.
constexpr std::uint64_t kSharedChunkBytesMax = std::uint64_t{4} << 20;

/// The largest chunk with which `count` readers fit the memory. Whole leaves, so that no leaf spans two
/// chunks.
std::size_t chunk_bytes(std::uint64_t memory_bytes, std::size_t count, std::uint64_t max_bytes) {
  // A reader takes the memory of kCachedReaderChunks chunks, because mapped pages count as memory until they
  // are released (page_cache.h).
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
    // Sized once here, so that workers can write their pieces without a lock.
    std::uint64_t stream_bytes = 0;
    for (const DigestInput& input : inputs) stream_bytes += input.length_bytes;
    pieces_.resize(divide_up(stream_bytes, wants.v1_piece_bytes));
  }

  StreamDigests run() {
    assign_units();
    for (const std::size_t unit : together_) hash_together(plan_.units[unit]);
    if (!separate_.empty()) {
      // Pairs pay only for SHA, and only when there are more units than threads.
      const bool paired =
          (wants_.v1_piece_bytes > 0 || wants_.sha256) && separate_.size() > pool_.thread_count();
      const std::size_t workers = std::min<std::size_t>(pool_.thread_count(), separate_.size());
      pool_.run(workers, [&](std::size_t, unsigned) { hash_separately(paired ? 2 : 1); });
    }
    // Now all units are finished, and with them all files are closed.
    StreamDigests digests{files_.take(), std::move(pieces_)};
    forget_pieces_of_changed(digests);
    return digests;
  }

 private:
  /// Removes the hashes of pieces that a changed file shares with other files: they are of no state that the
  /// files ever had.
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

  /// One thread's reader, hasher and buffer for a work unit.
  struct Pipeline {
    Pipeline(const Engine& engine, DigestFiles& files, std::span<std::optional<Sha1>> pieces,
             std::size_t chunk)
        : reader(engine.plan_.segments, files, engine.options_, engine.progress_, engine.stop_),
          hasher(engine.wants_, files, pieces),
          buffer(chunk_buffer_bytes(chunk)) {}

    UnitReader reader;
    UnitHasher hasher;
    AlignedBuffer buffer;
    bool in_unit = false;
    bool in_chunk = false;
  };

  /// Decides which units the threads process separately and which together. A unit is processed together when
  /// it is longer than all shorter ones, so that the other threads would run out of work, and when it needs
  /// more than one digest.
  void assign_units() {
    const int kinds = (wants_.md5 ? 1 : 0) + (wants_.sha256 ? 1 : 0) + (wants_.leaves ? 1 : 0) +
                      (wants_.v1_piece_bytes > 0 ? 1 : 0);
    const bool may_share = kinds > 1 && pool_.thread_count() > 1;
    std::vector<std::size_t> order(plan_.units.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto length_of = [&](std::size_t unit) { return plan_.units[unit].length_bytes; };
    // Units of whole files differ in length: the longest start first, so that none starts when all others are
    // done.
    if (wants_.md5 || wants_.sha256) std::ranges::stable_sort(order, std::ranges::greater(), length_of);
    std::uint64_t rest_bytes = 0;
    for (const std::size_t unit : order) rest_bytes += length_of(unit);
    for (const std::size_t unit : order) {
      rest_bytes -= length_of(unit);
      // Only units at the head of the order are processed together: once one is left to a single thread, all
      // later ones are, so that the two phases do not alternate.
      const bool alone = may_share && length_of(unit) > rest_bytes && separate_.empty();
      (alone ? together_ : separate_).push_back(unit);
    }
  }

  /// One worker's loop over the units that are processed separately.
  void hash_separately(std::size_t pipeline_count) {
    const std::size_t buffers = pool_.thread_count() * pipeline_count;
    // At least sixteen leaves where that many are hashed at once.
    const bool wide = wants_.leaves && has_wide_sha();
    const std::uint64_t cached_bytes =
        wide ? std::max(kChunkBytesMax, kWideShaMessages * kMerkleBlockBytes) : kChunkBytesMax;
    const std::uint64_t max_bytes = options_.direct ? kSharedChunkBytesMax : cached_bytes;
    const std::size_t chunk = chunk_bytes(options_.memory_bytes, buffers, max_bytes);
    // Each worker has pipelines of its own, so that only the results are shared between threads.
    Pipeline a(*this, files_, pieces_, chunk);
    std::optional<Pipeline> b;
    if (pipeline_count > 1) b.emplace(*this, files_, pieces_, chunk);
    while (true) {
      const bool has_a = prepare(a);
      const bool has_b = b && prepare(*b);
      // Both advance by the shorter of the two, which then gets its next chunk; leaves and MD5 were done by
      // prepare().
      if (has_a && has_b) {
        const auto count = std::min(a.hasher.pending().size(), b->hasher.pending().size());
        UnitHasher::step_pair(a.hasher, b->hasher, count);
      } else if (has_a || has_b) {
        UnitHasher& hasher = has_a ? a.hasher : b->hasher;
        hasher.step(hasher.pending().size());
      } else {
        return;
      }
    }
  }

  /// Reads until there are bytes for the sequential SHA digests; false when no unit is left. Everything else
  /// that a chunk needs is done here.
  bool prepare(Pipeline& pipeline) {
    while (pipeline.hasher.pending().empty()) {
      // The reader lets go of the chunk before end() does: end() may close the file, on which the reader
      // depends.
      if (std::exchange(pipeline.in_chunk, false)) {
        pipeline.reader.release_chunk();
        pipeline.hasher.end();
      }
      if (!pipeline.in_unit) {
        const std::size_t next = next_separate_.fetch_add(1);
        if (next >= separate_.size()) return false;
        pipeline.reader.start(plan_.units[separate_[next]]);
        pipeline.hasher.start(plan_.units[separate_[next]]);
        pipeline.in_unit = true;
      }
      const std::optional<StreamChunk> chunk = pipeline.reader.next(pipeline.buffer.bytes());
      if (!chunk) {
        pipeline.hasher.finish();
        pipeline.in_unit = false;
        continue;
      }
      pipeline.hasher.begin(*chunk);
      pipeline.hasher.hash_leaves(0, pipeline.hasher.leaf_count());
      pipeline.hasher.update_md5();
      pipeline.in_chunk = true;
    }
    return true;
  }

  /// All threads process one chunk: one reads the next chunk, one computes each sequential digest, all others
  /// hash leaves.
  void hash_together(const WorkUnit& unit) {
    UnitReader reader(plan_.segments, files_, options_, progress_, stop_);
    UnitHasher hasher(wants_, files_, pieces_);
    const std::size_t buffer_bytes =
        chunk_buffer_bytes(chunk_bytes(options_.memory_bytes, 2, kSharedChunkBytesMax));
    AlignedBuffer now(buffer_bytes);
    AlignedBuffer then(buffer_bytes);
    reader.start(unit);
    hasher.start(unit);
    std::optional<StreamChunk> chunk = reader.next(now.bytes());
    while (chunk) {
      // Two buffers take turns: one is hashed while the next chunk is read into the other. Each task writes a
      // state of its own, so the tasks of a round need no lock.
      std::optional<StreamChunk> next;
      hasher.begin(*chunk);
      const std::size_t leaves = hasher.leaf_count();
      const std::size_t leaf_tasks = std::min<std::size_t>(leaves, pool_.thread_count() * 4);
      constexpr std::size_t kSequentialTasks = 4;  // the longest first
      pool_.run(kSequentialTasks + leaf_tasks, [&](std::size_t task, unsigned) {
        switch (task) {
          case 0: next = reader.next(then.bytes()); return;
          case 1: hasher.update_md5(); return;
          case 2: hasher.update_sha256(); return;
          case 3: hasher.update_pieces(); return;
          default: break;
        }
        task -= kSequentialTasks;
        hasher.hash_leaves(task * leaves / leaf_tasks, (task + 1) * leaves / leaf_tasks);
      });
      // The threads have returned: the results may be stored and the buffers may change roles.
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
  std::vector<std::size_t> separate_;
  std::atomic<std::size_t> next_separate_{0};
};

}  // namespace

StreamDigests compute_digests(std::span<const DigestInput> inputs, const DigestWants& wants,
                              const DigestOptions& options, Progress& progress, const std::stop_token& stop) {
  return Engine(inputs, wants, options, progress, stop).run();
}

}  // namespace sluice::base
