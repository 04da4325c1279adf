#pragma once
// Experts of a model that is larger than the memory: as many as fit stay in memory of our own. The others are
// read past the page cache when the router has chosen them, by reader threads, while workers compute.
//
// Layers come round in a cycle. A cache that evicts the least recently used entry, as the page cache does,
// evicts exactly what is needed next. Here the value of an expert is how often it was used in the last
// passes, and values change only between passes. Of the experts with the least value the one that was read
// last is evicted. So most of the cache stays as it is, and what does not fit streams through a few slots.
//
// A chunk of tokens may choose all experts of a layer. Then they are taken in groups, in ascending order, and
// the next group is read while one computes.
//
//   ExpertCache::Cursor use(cache, layer, experts);
//   for (auto group = use.next(); !group.empty(); group = use.next()) {
//     use.order()                     the group's experts, those that are in memory first
//     use.matrix(e, ExpertMatrix::gate)  where it is, or will be
//     use.await(e, ExpertMatrix::gate, panels_end)   by any thread, before these panels are read
//   }
//
// Rejected, by measurement: the plain page cache, and reading what a later layer may choose
// (docs/decisions/0012-experts-in-own-memory.md).

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "runtime/memory/expert_extent.h"
#include "runtime/memory/model_impl.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Used by one thread, except Cursor::await.
class ExpertCache final {
 public:
  /// `slot_count`: experts that are held at once, at least 2, so that one is read while another computes.
  /// Error{io} when the file is no longer the one that the model was opened from.
  ExpertCache(const Model::Impl& model, std::size_t slot_count);
  ~ExpertCache();

  /// Call before each pass of a chunk of tokens through all layers: values change here and nowhere else.
  void begin_pass();

  class Cursor;

  /// Uses so far. Bytes and seconds of reads count when the read is done.
  [[nodiscard]] ResidencyStats stats() const;

  /// Bytes of one slot, which has room for the largest expert of the model.
  [[nodiscard]] static std::uint64_t slot_bytes(const Model::Impl& model);

 private:
  struct Slot;
  /// A piece to read of the expert that the slot was given to.
  struct Read {
    Slot* slot;
    std::size_t piece;
  };

  [[nodiscard]] Slot& evict();
  void enqueue(std::span<Slot* const> missing);
  void cancel();
  void end_readers();
  void read_in_background();
  void finish(const Read& read);
  void read_piece(const Read& read);
  void fail(std::exception_ptr failure);
  /// Rethrows the error of an earlier read. After one nothing is read again: the file is damaged or its disk
  /// fails, and slots may hold half an expert.
  void require_working() const;

  const Model::Impl& model_;
  base::File file_;
  bool direct_;
  std::vector<ExpertExtent> extents_;      // layer by layer, expert by expert
  std::vector<std::size_t> first_extent_;  // [layer]
  std::vector<float> values_;              // [extent] how often it was used lately
  std::vector<bool> used_;                 // [extent] in this pass
  std::vector<Slot*> slot_of_extent_;      // [extent] null where it is not in memory
  std::vector<std::unique_ptr<Slot>> slots_;
  std::uint64_t loads_ = 0;

  mutable std::mutex mutex_;  // guards the members below, but for waited_ns_ and readers_
  std::condition_variable work_;
  std::condition_variable idle_;
  std::deque<Read> queue_;
  std::size_t reads_under_way_ = 0;
  std::chrono::steady_clock::time_point reading_since_;
  bool ending_ = false;
  std::exception_ptr failure_;
  ResidencyStats stats_;
  std::atomic<std::uint64_t> waited_ns_{0};
  std::vector<std::thread> readers_;
};

/// The experts that a chunk of tokens has chosen in one layer. The destructor gives up what is still being
/// read, so an error may unwind through it at any time. At most one exists at a time.
class ExpertCache::Cursor final {
 public:
  /// `experts` in ascending order. Begins to read the missing ones of the first two groups.
  Cursor(ExpertCache& cache, std::size_t layer, std::span<const std::uint32_t> experts);
  ~Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  /// The next experts to compute with, in ascending order; none when all are done. The previous group's slots
  /// may be evicted from then on, so nobody may read its matrices any longer.
  [[nodiscard]] std::span<const std::uint32_t> next();
  /// The same group, those that are in memory already first.
  [[nodiscard]] std::span<const std::uint32_t> order() const { return order_; }

  [[nodiscard]] Matrix matrix(std::uint32_t expert, ExpertMatrix matrix) const;
  /// The whole expert; valid once await_all() has returned.
  [[nodiscard]] base::Bytes bytes(std::uint32_t expert) const;
  /// Waits until the panels before `panels_end` are in memory. Rethrows the error of a failed read.
  /// Thread-safe.
  void await(std::uint32_t expert, ExpertMatrix matrix, std::size_t panels_end) const;
  void await_all(std::uint32_t expert) const;

 private:
  [[nodiscard]] std::size_t extent_index(std::uint32_t expert) const { return first_extent_ + expert; }
  [[nodiscard]] std::span<const std::uint32_t> group(std::size_t index) const;
  void start(std::size_t group_index);
  void release(std::size_t group_index);
  void await_pieces(const Slot& slot, std::size_t count) const;

  ExpertCache& cache_;
  std::size_t first_extent_;
  std::vector<std::uint32_t> experts_;
  std::vector<std::uint32_t> order_;
  std::size_t group_size_;
  std::size_t next_group_ = 0;
};

}  // namespace sluice::runtime
